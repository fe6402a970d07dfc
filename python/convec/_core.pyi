"""
convec's compiled core. Use the modules of the package convec instead.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import os
import typing
import typing_extensions
__all__: list[str] = ['Corpus', 'CorpusEncoder', 'DeviceMemory', 'InUse', 'Network', 'Use', 'Vocabulary', 'Word2VecReader', 'Word2VecReplica', 'Word2VecSharedTables', 'Word2VecTrainer', 'WordCounter', 'activation', 'activation_backward', 'available_isas', 'average_pool2d', 'average_pool2d_backward', 'batch_norm_backward', 'batch_norm_inference', 'batch_norm_training', 'check_matmul_precision', 'conv2d', 'conv2d_backward_filters', 'conv2d_backward_input', 'cpu_name', 'cuda_array', 'current_isa', 'decode_strings', 'dense', 'dense_backward_input', 'dense_backward_weights', 'detected_isa', 'dropout', 'encode_sentences', 'free_device_memory', 'global_average_pool2d', 'global_average_pool2d_backward', 'global_max_pool2d', 'global_max_pool2d_backward', 'has_cuda_backend', 'matmul_precision', 'max_pool2d', 'max_pool2d_backward', 'metric', 'multiplicative_similarities', 'near_spellings', 'nearest_multiplicative', 'nearest_vectors', 'network_load', 'network_parameters', 'network_save', 'num_threads', 'optimizer_slot_count', 'optimizer_step', 'pearson_correlation', 'pointwise_loss', 'pointwise_loss_backward', 'random_normal', 'random_truncated_normal', 'random_uniform', 'rescale', 'safetensors_describe', 'safetensors_load', 'safetensors_parse', 'safetensors_save', 'set_cuda_backend', 'set_isa', 'set_matmul_precision', 'set_num_threads', 'set_winograd', 'softmax', 'softmax_backward', 'softmax_cross_entropy', 'softmax_cross_entropy_backward', 'spearman_correlation', 'sum_of_squares', 'vector_norms', 'vector_similarities', 'winograd', 'write_word2vec']
class Use:
    """
    A thread uses a model while it is within `with`.
    """
    def __enter__(self) -> None:
        ...
    def __exit__(self, type: typing.Any, value: typing.Any, traceback: typing.Any) -> None:
        ...
class InUse:
    """
    Which threads use a model: several may look at it at once, or one may change it.
    """
    def __init__(self) -> None:
        ...
    def changing(self, what: str) -> Use:
        """
        To do `what` within `with`. Raises RuntimeError where another thread uses it.
        """
    def looking(self, what: str) -> Use:
        """
        To do `what` within `with`. Raises RuntimeError where another thread changes it.
        """
class DeviceMemory:
    """
    Memory of a CUDA device, zeroed.
    """
    def __init__(self, index: int, bytes: int) -> None:
        ...
    def copy_in(self, host: numpy.typing.NDArray[numpy.float32], offset: int = 0) -> None:
        """
        Copies an array into it.
        """
    def copy_out(self, host: numpy.typing.NDArray[numpy.float32], offset: int = 0) -> None:
        """
        Fills an array from it, when all work of the default stream is done.
        """
    @property
    def address(self) -> int:
        ...
    @property
    def bytes(self) -> int:
        ...
class Network:
    """
    A compiled Sequential network; see convec.models.Sequential.
    """
    def __init__(self, layers: collections.abc.Sequence[dict[str, typing.Any]], input_shape: collections.abc.Sequence[typing.Any], seed: int = 0) -> None:
        """
        Compiles a list of layer dictionaries for an input shape (of one sample).
        """
    def compile(self, loss: dict[str, typing.Any], optimizer: dict[str, typing.Any], metrics: collections.abc.Sequence[dict[str, typing.Any]]) -> None:
        """
        Sets loss, optimizer and metrics from dictionaries; resets the optimizer's state.
        """
    def evaluate(self, x: typing.Any, y: typing.Any, sample_weight: typing.Any = None, *, batch_size: int, order: typing.Any = None, samples: typing.Any = None, progress: typing.Any = None, progress_interval: float = 0.1) -> dict[str, typing.Any]:
        """
        Loss and metrics over the data.
        """
    def first_nonfinite_layer(self, x: typing.Any) -> int:
        """
        Index of the first layer with a NaN or infinity in its output, or -1.
        """
    def get_optimizer_slots(self, index: int) -> list[typing.Any]:
        """
        Copies of the optimizer's state of a parameter.
        """
    def get_parameter(self, index: int) -> numpy.typing.NDArray[numpy.float32]:
        """
        A copy of a parameter.
        """
    def initialize(self, seed: int) -> None:
        """
        Glorot-uniform kernels, zero biases.
        """
    def layer_output_shape(self, index: int) -> tuple[typing.Any, ...]:
        """
        Shape of one sample after a layer.
        """
    def parameters(self) -> list[typing.Any]:
        """
        A dictionary for each parameter: layer, name, shape, trainable.
        """
    def predict(self, x: typing.Any, *, batch_size: int, progress: typing.Any = None, progress_interval: float = 0.1) -> numpy.typing.NDArray[numpy.float32]:
        """
        Predictions for every sample.
        """
    def set_data_parallel(self, *, rank: int = 0, ranks: int = 1, all_reduce: typing.Any = None, wait: typing.Any = None, all_reduce_totals: typing.Any = None, bucket_bytes: int = 4194304, sharded: bool = False, on_device: bool = False, synchronize: typing.Any = None) -> None:
        """
        Trains and evaluates together with other processes: all_reduce(array) begins to add up a float32 array over them, in place, wait() ends it, all_reduce_totals(array) adds up a float64 array at once. With on_device it is all_reduce(address, count) of the device's memory, behind what `stream` holds; wait() lets the stream wait, and synchronize() the host.
        """
    def set_optimizer_slots(self, index: int, arrays: collections.abc.Sequence[typing.Any]) -> None:
        """
        Overwrites that state.
        """
    def set_parameter(self, index: int, value: typing.Any) -> None:
        """
        Overwrites a parameter.
        """
    def set_seed(self, seed: int) -> None:
        """
        Seed of dropout.
        """
    def set_trainable(self, layer: int, trainable: bool) -> None:
        """
        Freezes or releases a layer.
        """
    def test_batch(self, x: typing.Any, y: typing.Any, sample_weight: typing.Any = None) -> dict[str, typing.Any]:
        """
        Loss and metrics of one batch.
        """
    def to(self, type: str, index: int = 0) -> None:
        """
        Moves to a device: 'cpu', or 'cuda' and its number.
        """
    def train_batch(self, x: typing.Any, y: typing.Any, sample_weight: typing.Any = None) -> dict[str, typing.Any]:
        """
        One optimizer step.
        """
    def train_epoch(self, x: typing.Any, y: typing.Any, sample_weight: typing.Any = None, *, batch_size: int, order: typing.Any = None, samples: typing.Any = None, learning_rates: typing.Any = None, progress: typing.Any = None, progress_interval: float = 0.1) -> dict[str, typing.Any]:
        """
        One pass of optimizer steps over the data.
        """
    @property
    def device(self) -> str:
        """
        The device's name.
        """
    @property
    def input_shape(self) -> tuple[typing.Any, ...]:
        ...
    @property
    def iterations(self) -> int:
        ...
    @iterations.setter
    def iterations(self, arg1: int) -> None:
        ...
    @property
    def learning_rate(self) -> float:
        ...
    @learning_rate.setter
    def learning_rate(self, arg1: float) -> None:
        ...
    @property
    def matmul_precision(self) -> str:
        """
        How exactly dense layers and convolutions multiply on a GPU.
        """
    @matmul_precision.setter
    def matmul_precision(self, arg1: str) -> None:
        ...
    @property
    def output_shape(self) -> tuple[typing.Any, ...]:
        ...
    @property
    def seed(self) -> int:
        ...
    @property
    def stream(self) -> int:
        """
        Address of the CUDA stream on which training is launched; 0 on the CPU.
        """
class Vocabulary:
    """
    Words with ids from 0 on and their counts.
    """
    def __init__(self, words: typing.Any, counts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> None:
        """
        From distinct str and their int64 counts; ids in this order.
        """
    def __len__(self) -> int:
        ...
    def counts(self) -> numpy.typing.NDArray[numpy.int64]:
        """
        The counts by id, int64.
        """
    def find(self, word: typing.Any) -> int:
        """
        The id of a word, or -1.
        """
    def words(self) -> list[str]:
        """
        The words by id. Bytes that are not UTF-8 are lone surrogates ('surrogateescape').
        """
    @property
    def total_count(self) -> int:
        """
        Sum of the counts.
        """
class Corpus:
    """
    Ids of words, every sentence followed by -1.
    """
    def __len__(self) -> int:
        ...
    def tokens(self) -> numpy.typing.NDArray[numpy.int32]:
        """
        The ids: a read-only int32 array.
        """
    @property
    def raw_words(self) -> int:
        """
        All words of the text.
        """
    @property
    def sentences(self) -> int:
        """
        Sentences after cutting.
        """
    @property
    def spilled(self) -> bool:
        """
        Whether the ids live in a temporary file.
        """
    @property
    def words(self) -> int:
        """
        Words that are in the vocabulary.
        """
class WordCounter:
    """
    Counts words in files, pieces of text and lists of words.
    """
    def __init__(self, *, max_vocab_size: int = 0, prune_rule: typing.Any = None, keep_ids: bool = True, memory_limit: int = -1) -> None:
        """
        prune_rule(word, count, min_reduce) tells whether a word stays when max_vocab_size is exceeded.
        """
    def __len__(self) -> int:
        ...
    def corpus(self, vocabulary: Vocabulary, *, memory_limit: int = -1, spill_directory: str = '') -> Corpus:
        """
        What was counted as ids; the kept ids are used up by it.
        """
    def count_file(self, path: os.PathLike[str] | str | bytes, *, max_sentence_length: int = 10000, max_lines: int = -1, lines: bool = True, progress: typing.Any = None, progress_interval: float = 0.1) -> None:
        """
        Reads a text file with all threads. progress(bytes, total_bytes, raw_words, sentences) is called now and then.
        """
    def count_sentences(self, sentences: typing.Any, max_sentence_length: int = 10000) -> None:
        """
        Takes an iterable of lists of str; an empty list is a sentence, too.
        """
    def counts(self) -> numpy.typing.NDArray[numpy.int64]:
        """
        Their counts, int64.
        """
    def effective_min_count(self, min_count: int = 5, max_final_vocab: int = 0) -> int:
        """
        The min_count that vocabulary() will use.
        """
    def end_text(self) -> None:
        """
        Ends the text that was fed.
        """
    def feed(self, text: typing_extensions.Buffer, *, max_sentence_length: int = 10000, max_lines: int = -1, lines: bool = True, progress: typing.Any = None, progress_interval: float = 0.1) -> None:
        """
        Takes a piece of a text that comes in pieces; end_text() ends it. Options of the first piece hold.
        """
    def vocabulary(self, min_count: int = 5, max_final_vocab: int = 0, sorted: bool = True) -> Vocabulary:
        """
        The words that occur at least min_count times.
        """
    def words(self) -> list[str]:
        """
        Every distinct word, by first appearance.
        """
    @property
    def has_corpus(self) -> bool:
        """
        Whether corpus() is possible.
        """
    @property
    def min_reduce(self) -> int:
        """
        1 plus the number of prunings.
        """
    @property
    def raw_words(self) -> int:
        """
        Words counted.
        """
    @property
    def sentences(self) -> int:
        """
        Sentences ended.
        """
    @property
    def text_complete(self) -> bool:
        """
        Whether max_lines have been fed.
        """
class CorpusEncoder:
    """
    Encodes files, pieces of text and lists of words.
    """
    def __init__(self, vocabulary: Vocabulary, *, memory_limit: int = -1, spill_directory: str = '') -> None:
        ...
    def add_file(self, path: os.PathLike[str] | str | bytes, *, max_sentence_length: int = 10000, max_lines: int = -1, lines: bool = True, progress: typing.Any = None, progress_interval: float = 0.1) -> None:
        """
        Reads a text file with all threads. progress(bytes, total_bytes, raw_words, sentences) is called now and then.
        """
    def add_sentences(self, sentences: typing.Any, max_sentence_length: int = 10000) -> None:
        """
        Takes an iterable of lists of str; an empty list is a sentence, too.
        """
    def end_text(self) -> None:
        """
        Ends the text that was fed.
        """
    def feed(self, text: typing_extensions.Buffer, *, max_sentence_length: int = 10000, max_lines: int = -1, lines: bool = True, progress: typing.Any = None, progress_interval: float = 0.1) -> None:
        """
        Takes a piece of a text that comes in pieces; end_text() ends it. Options of the first piece hold.
        """
    def finish(self) -> Corpus:
        """
        The corpus so far; the encoder is empty then.
        """
    @property
    def text_complete(self) -> bool:
        """
        Whether max_lines have been fed.
        """
class Word2VecTrainer:
    """
    The tables of a Word2Vec model; see convec.models.Word2Vec.
    """
    piece_alignment: typing.ClassVar[int] = 16384
    def __init__(self, counts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], *, vector_size: int, sg: bool, hs: bool, negative: int, window: int, shrink_windows: bool, cbow_mean: bool, seed: int, sample: float, ns_exponent: float, precision: str = 'float32') -> None:
        """
        Allocates and initialises tables for words of the given counts.
        """
    def huffman_path(self, word: int) -> tuple[numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.uint8]]:
        """
        Inner nodes from the root down, and the branch taken at each.
        """
    def initialize(self, seed: int) -> None:
        """
        Random vectors, zero output tables.
        """
    def score(self, tokens: typing.Any) -> numpy.typing.NDArray[numpy.float64]:
        """
        Log probability of each sentence; hierarchical softmax only.
        """
    def set_vocabulary(self, counts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], *, sample: float, ns_exponent: float) -> None:
        """
        Another vocabulary: rows below both sizes are kept, further ones initialised. Arrays of the tables taken before show the old ones.
        """
    def train(self, tokens: typing.Any, *, position: int = 0, epoch: int = 0, words_done: int = 0, words_total: int = 0, alpha: float = 0.02500000037252903, min_alpha: float = 9.999999747378752e-05, workers: int = 3, compute_loss: bool = False, deterministic: bool = False, progress: typing.Any = None, progress_interval: float = 0.1) -> dict[str, typing.Any]:
        """
        Trains on word numbers (int32, each sentence followed by -1); returns {'trained_words': ..., 'loss': ...}. progress(words done, alpha) is called now and then; what it raises stops training.
        """
    @property
    def sample_int(self) -> numpy.typing.NDArray[numpy.uint32]:
        """
        Probability that an occurrence of each word survives sub-sampling, in units of 2^-32; empty where nothing is sub-sampled.
        """
    @property
    def syn1(self) -> typing.Any:
        """
        Vectors of the Huffman tree's inner nodes, or None.
        """
    @property
    def syn1neg(self) -> typing.Any:
        """
        Output vectors of negative sampling, or None.
        """
    @property
    def vectors(self) -> typing.Any:
        """
        The words' vectors, float32 (words, vector_size), writable; rows are padded in memory.
        """
class Word2VecSharedTables:
    """
    The tables of a trainer in memory that processes of one host share, and train at once.
    """
    @staticmethod
    def memory_size(trainer: Word2VecTrainer) -> int:
        """
        Bytes that the tables of a trainer take.
        """
    def __init__(self, trainer: Word2VecTrainer, memory: numpy.typing.NDArray[numpy.uint8]) -> None:
        """
        memory: uint8, of memory_size() bytes or more, 64-byte aligned, all zero before the first upload().
        """
    def download(self) -> None:
        """
        Copies the memory into the trainer's tables.
        """
    def train(self, tokens: typing.Any, *, position: int = 0, epoch: int = 0, words_done: int = 0, words_total: int = 0, alpha: float = 0.02500000037252903, min_alpha: float = 9.999999747378752e-05, workers: int = 3, compute_loss: bool = False, deterministic: bool = False, progress: typing.Any = None, progress_interval: float = 0.1) -> dict[str, typing.Any]:
        """
        As Word2VecTrainer.train, on the shared tables.
        """
    def upload(self) -> None:
        """
        Copies the trainer's tables into the memory.
        """
class Word2VecReplica:
    """
    A table of a trainer of which other processes have copies: its rows as they were when all were last the same.
    """
    def __init__(self, trainer: Word2VecTrainer, name: str) -> None:
        """
        Remembers the rows of 'vectors', 'syn1neg' or 'syn1' as they are.
        """
    def __len__(self) -> int:
        ...
    def apply(self, order: typing.Any, begin: int, end: int, changes: typing.Any, squares: typing.Any, factors: typing.Any, processes: int) -> None:
        """
        Sets the same rows to what they were plus changes, and remembers them so. changes and squares are sums over the processes; factors (end - begin) scale changes that are alike, and less the less they are.
        """
    def changes(self, order: typing.Any, begin: int, end: int, *, out: typing.Any, squares: typing.Any) -> None:
        """
        Writes by how much the rows order[begin:end] (None: these numbers themselves) have changed to out, float32 (end - begin, row_stride), and the sums of its squares to squares, float32 (end - begin).
        """
    @property
    def row_stride(self) -> int:
        """
        Numbers of a row, padding included.
        """
class Word2VecReader:
    """
    Reads the word2vec formats block by block.
    """
    def __init__(self, *, binary: bool, no_header: bool, limit: int, float64: bool, size: int, pieces: bool = False) -> None:
        """
        pieces: only what the last call of read found is held.
        """
    def read(self, block: typing_extensions.Buffer, begin: int, end: int, last: bool) -> int:
        """
        Reads from bytes [begin, end) of a block what is whole; the number of bytes consumed.
        """
    def take_vectors(self, float64: bool) -> numpy.typing.NDArray[numpy.float32]:
        """
        The vectors read; once, or in pieces once after each call of read.
        """
    def words(self, encoding: str, errors: str) -> list[str]:
        """
        The words read.
        """
    @property
    def dim(self) -> int:
        ...
    @property
    def done(self) -> bool:
        ...
    @property
    def promised(self) -> int:
        ...
    @property
    def rows(self) -> int:
        ...
def activation(input: typing.Any, name: str, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def activation_backward(grad_output: typing.Any, input: typing.Any, name: str, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def available_isas() -> list[str]:
    """
    Levels that can be chosen here, lowest first.
    """
def average_pool2d(input: typing.Any, pool_size: typing.Any, strides: typing.Any, padding: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def average_pool2d_backward(grad_output: typing.Any, input_shape: collections.abc.Sequence[typing.Any], pool_size: typing.Any, strides: typing.Any, padding: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def batch_norm_backward(grad_output: typing.Any, input: typing.Any, gamma: typing.Any, batch_mean: typing.Any, batch_inverse_std: typing.Any, out: typing.Any) -> tuple[typing.Any, ...]:
    ...
def batch_norm_inference(input: typing.Any, gamma: typing.Any, beta: typing.Any, moving_mean: typing.Any, moving_variance: typing.Any, epsilon: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def batch_norm_training(input: typing.Any, gamma: typing.Any, beta: typing.Any, moving_mean: typing.Any, moving_variance: typing.Any, momentum: float, epsilon: float, out: typing.Any) -> tuple[typing.Any, ...]:
    ...
def check_matmul_precision(precision: str) -> str:
    """
    The name of a precision. Raises ValueError for another.
    """
def conv2d(input: typing.Any, filters: typing.Any, bias: typing.Any, strides: typing.Any, padding: typing.Any, dilation: typing.Any, groups: int, activation: str, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def conv2d_backward_filters(input: typing.Any, grad_output: typing.Any, kernel_size: typing.Any, strides: typing.Any, padding: typing.Any, dilation: typing.Any, groups: int) -> tuple[typing.Any, ...]:
    ...
def conv2d_backward_input(grad_output: typing.Any, filters: typing.Any, input_shape: collections.abc.Sequence[typing.Any], strides: typing.Any, padding: typing.Any, dilation: typing.Any, groups: int, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def cpu_name() -> str:
    """
    The processor's own name.
    """
def cuda_array(object: typing.Any, name: str) -> typing.Any:
    """
    What convec._cuda asks of a C-contiguous array on a CUDA device: who keeps it alive, its address, dtype, shape and device, and the stream that waits for what has made it. None: it is not on one.
    """
def current_isa() -> str:
    """
    Instruction-set level in use.
    """
def decode_strings(text: typing.Any, ends: typing.Any) -> list[str]:
    """
    Strings out of their UTF-8 one after the other, and where each ends.
    """
def dense(input: typing.Any, weights: typing.Any, bias: typing.Any, activation: str, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def dense_backward_input(grad_output: typing.Any, weights: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def dense_backward_weights(input: typing.Any, grad_output: typing.Any) -> tuple[typing.Any, ...]:
    ...
def detected_isa() -> str:
    """
    Best level of this machine.
    """
def dropout(input: typing.Any, rate: float, seed: int, offset: int, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def encode_sentences(vocabulary: Vocabulary, sentences: typing.Any, max_sentence_length: int = 10000) -> numpy.typing.NDArray[numpy.int32]:
    """
    Ids of an iterable of lists of str as a read-only int32 array: -1 after every sentence, empty ones included, and after every max_sentence_length words.
    """
def free_device_memory(index: int) -> int:
    """
    Bytes of a CUDA device's memory that are free.
    """
def global_average_pool2d(input: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def global_average_pool2d_backward(grad_output: typing.Any, input_shape: collections.abc.Sequence[typing.Any], out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def global_max_pool2d(input: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def global_max_pool2d_backward(grad_output: typing.Any, input: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def has_cuda_backend() -> bool:
    """
    Whether a CUDA backend was taken over.
    """
def matmul_precision() -> str:
    """
    How exactly dense layers and convolutions multiply on a GPU, in new models and in convec.ops.
    
    Returns:
        'float32', 'tf32', '3xtf32' or 'mixed_bfloat16'; at first that of the environment variable
        CONVEC_MATMUL_PRECISION, or 'float32'.
    
    Raises:
        ValueError: CONVEC_MATMUL_PRECISION names none.
    """
def max_pool2d(input: typing.Any, pool_size: typing.Any, strides: typing.Any, padding: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def max_pool2d_backward(grad_output: typing.Any, input: typing.Any, pool_size: typing.Any, strides: typing.Any, padding: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def metric(name: str, predictions: typing.Any, targets: typing.Any, k: int, threshold: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def multiplicative_similarities(vectors: typing.Any, norms: typing.Any, positive: typing.Any, negative: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    """
    The multiplicative combination of similarities to several vectors, one a row.
    """
def near_spellings(wanted: str, keys: list[typing.Any], count: int) -> list[int]:
    """
    Indices of the keys that look most like another.
    """
def nearest_multiplicative(vectors: typing.Any, norms: typing.Any, positive: typing.Any, negative: typing.Any, *, topn: int, begin: int, end: int, excluded: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] = []) -> tuple[typing.Any, ...]:
    """
    Rows with the largest multiplicative similarities, and these.
    """
def nearest_vectors(vectors: typing.Any, norms: typing.Any, queries: typing.Any, *, topn: int, begin: int, end: int, excluded: collections.abc.Sequence[collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]] = []) -> tuple[typing.Any, ...]:
    """
    Rows of [begin, end) most similar to each query, and the similarities: two (queries, topn) arrays; -1 and NaN where there are fewer.
    """
def network_load(path: typing.Any) -> Network:
    """
    The network of a file.
    """
def network_parameters(layers: collections.abc.Sequence[dict[str, typing.Any]], input_shape: collections.abc.Sequence[typing.Any]) -> list[typing.Any]:
    """
    A dictionary for each parameter that a network of these layers has: layer, name, shape, trainable. Nothing is allocated.
    """
def network_save(path: typing.Any, network: Network, layer_names: collections.abc.Sequence[str], metadata: collections.abc.Mapping[str, str] = {}, *, optimizer_state: bool = True) -> None:
    """
    Writes a network to a safetensors file that convec::load_network reads.
    """
def num_threads() -> int:
    """
    Threads used by ops on the CPU.
    """
def optimizer_slot_count(optimizer: str, settings: dict[str, typing.Any]) -> int:
    ...
def optimizer_step(optimizer: str, parameter: typing.Any, gradient: typing.Any, slots: collections.abc.Sequence[typing.Any], iteration: int, settings: dict[str, typing.Any], gradient_scale: float) -> None:
    ...
def pearson_correlation(x: typing.Any, y: typing.Any) -> tuple[typing.Any, ...]:
    """
    Pearson's correlation and its two-sided p-value.
    """
def pointwise_loss(loss: str, predictions: typing.Any, targets: typing.Any, from_logits: bool, label_smoothing: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def pointwise_loss_backward(loss: str, grad_losses: typing.Any, predictions: typing.Any, targets: typing.Any, from_logits: bool, label_smoothing: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def random_normal(shape: collections.abc.Sequence[typing.Any], mean: float, stddev: float, seed: int) -> numpy.typing.NDArray[numpy.float32]:
    """
    A float32 array of normally distributed numbers.
    """
def random_truncated_normal(shape: collections.abc.Sequence[typing.Any], mean: float, stddev: float, seed: int) -> numpy.typing.NDArray[numpy.float32]:
    """
    A float32 array of normally distributed numbers within two standard deviations of the mean.
    """
def random_uniform(shape: collections.abc.Sequence[typing.Any], low: float, high: float, seed: int) -> numpy.typing.NDArray[numpy.float32]:
    """
    A float32 array of numbers uniform in [low, high).
    """
def rescale(input: typing.Any, scale: float, offset: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def safetensors_describe(path: typing.Any) -> tuple[typing.Any, ...]:
    """
    ({name: (type, shape)}, metadata) of a file, of which only the header is read.
    """
def safetensors_load(path: typing.Any, *, mmap: bool = True) -> tuple[typing.Any, ...]:
    """
    (arrays, metadata) of a file. With mmap the arrays are read-only views of the mapped file; else copies. BF16 becomes float32.
    """
def safetensors_parse(data: bytes) -> tuple[typing.Any, ...]:
    """
    (arrays, metadata) of a file's bytes; arrays are copies.
    """
def safetensors_save(path: typing.Any, tensors: dict[str, typing.Any], metadata: collections.abc.Mapping[str, str] = {}, *, sync: bool = True) -> None:
    """
    Writes a dict[str, typing.Any] of arrays and metadata (str to str). The file is complete or absent; rows that are further apart than they are long are written without a copy.
    """
def set_cuda_backend(capsule: typing.Any) -> None:
    """
    Takes over the backend of convec._cuda; None takes it away.
    """
def set_isa(name: str) -> None:
    """
    Chooses an instruction-set level.
    """
def set_matmul_precision(precision: str) -> None:
    """
    Sets how exactly dense layers and convolutions multiply on a GPU, in models made from now on and in convec.ops.
    
    Arrays, weights and sums stay float32, and all other ops compute in float32. It is a floor: the CPU, and GPUs before
    compute capability 8.0, compute in float32 whatever is allowed here.
    
    Args:
        precision: 'float32'; 'tf32': factors with a significand of 10 stored bits; '3xtf32': three products of TF32 in
            place of one, with float32's error; 'mixed_bfloat16': factors rounded to bfloat16 (7 stored bits).
    
    Raises:
        ValueError: there is no such precision.
    """
def set_num_threads(threads: int) -> None:
    """
    Sets the number of threads.
    """
def set_winograd(enabled: bool) -> None:
    """
    Allows or forbids Winograd's minimal filtering.
    """
def softmax(input: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def softmax_backward(grad_output: typing.Any, output: typing.Any, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def softmax_cross_entropy(logits: typing.Any, labels: typing.Any, from_logits: bool, label_smoothing: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def softmax_cross_entropy_backward(grad_losses: typing.Any, logits: typing.Any, labels: typing.Any, from_logits: bool, label_smoothing: float, out: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    ...
def spearman_correlation(x: typing.Any, y: typing.Any) -> tuple[typing.Any, ...]:
    """
    Spearman's rank correlation and its two-sided p-value.
    """
def sum_of_squares(array: typing.Any) -> float:
    ...
def vector_norms(vectors: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    """
    Euclidean norms of the rows.
    """
def vector_similarities(vectors: typing.Any, norms: typing.Any, queries: typing.Any) -> numpy.typing.NDArray[numpy.float32]:
    """
    Dot products of queries and rows, divided by the rows' norms unless those are None: (queries, rows).
    """
def winograd() -> bool:
    """
    Whether 3 x 3 convolutions may run by Winograd's minimal filtering.
    """
def write_word2vec(vectors: typing.Any, words: list[str], order: typing.Any, sink: collections.abc.Callable[[typing_extensions.Buffer], typing.Any], *, binary: bool, header: bool, total: int, prefix: str) -> None:
    """
    Passes rows in an order to sink(memoryview) in a word2vec format.
    """
__version__: str = '0.1.0'
