"""The files of vectors by key."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convec import _core
from convec._files import json_object
from convec.models._sharing import reads, writes
from convec.models._vector_exports import write_projector, write_sentence_transformers
from convec.models._word2vec_format import iterate_word2vec, open_binary, read_word2vec, replacing, write_word2vec
from convec.models.keyedvectors_table import KeyTable, PathLike

logger = logging.getLogger("convec.models.keyedvectors")

_Self = TypeVar("_Self", bound="VectorFiles")

_FORMAT = "convec.KeyedVectors"
# Files from so many bytes on are read while their keys are decoded.
_OVERLAPPED_BYTES = 1 << 24


class _Keys:
    """The keys of a file, decoded, and their rows.

    Args:
        tensors: the file's arrays.
        keys: the keys.
    """

    _NAMES = ("keys", "key_ends", "key_kinds")

    def __init__(self, tensors: Mapping[str, NDArray[Any]], keys: list[Any]) -> None:
        self._encoded = {name: np.array(tensors[name]) for name in self._NAMES if name in tensors}
        self.keys = keys
        self.index = {key: index for index, key in enumerate(keys) if key is not None}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> _Keys:
        """Decodes the keys. Raises ValueError where they are damaged."""
        keys: list[Any] = _core.decode_strings(np.ascontiguousarray(tensors["keys"]), tensors["key_ends"])
        if "key_kinds" in tensors:
            read: list[Callable[[str], Any]] = [lambda _: None, str, int]
            keys = [read[min(int(kind), 2)](key) for key, kind in zip(keys, tensors["key_kinds"], strict=True)]
        return cls(tensors, keys)

    def are_of(self, tensors: Mapping[str, NDArray[Any]]) -> bool:
        """Whether arrays hold these keys: the file may have been replaced in between."""
        found = {name: tensors[name] for name in self._NAMES if name in tensors}
        return found.keys() == self._encoded.keys() and all(
            np.array_equal(found[name], encoded) for name, encoded in self._encoded.items()
        )


class VectorFiles(KeyTable):
    """Saving and loading, in a file of convec's own and in those of other tools."""

    # ------------------------------------------------------------------ files

    @reads
    def save(
        self,
        fname_or_handle: PathLike | IO[bytes],
        separately: Any = None,
        sep_limit: int = 10 * 1024**2,
        ignore: Iterable[str] = frozenset(),
        pickle_protocol: int = 4,
    ) -> None:
        """Writes everything to one file, in the safetensors format. The file is complete or left as it was.

        Args:
            fname_or_handle: path or binary file object.
            separately: kept for gensim's sake, as the two after ``ignore``; concerns pickles.
            sep_limit: see ``separately``.
            ignore: names of attributes (:meth:`get_vecattr`) that are left out.
            pickle_protocol: see ``separately``.

        Raises:
            TypeError: a key is neither a str nor an int, or an attribute holds objects that JSON cannot express.
            OSError: the file cannot be written.
        """
        tensors, metadata = self._to_tensors(ignore)
        if isinstance(fname_or_handle, (str, os.PathLike)):
            _core.safetensors_save(fname_or_handle, tensors, metadata)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors"
            _core.safetensors_save(path, tensors, metadata, sync=False)
            with path.open("rb") as file:
                shutil.copyfileobj(file, fname_or_handle)

    @classmethod
    def load(cls: type[_Self], fname: PathLike, mmap: str | None = None) -> _Self:
        """Reads what :meth:`save` wrote.

        Args:
            fname: path.
            mmap: 'r' maps the vectors instead of reading them, so that they are shared between processes and read
                when they are used. 'c' reads them, as None does: changes never reach the file.

        Raises:
            ValueError: the file is damaged or of another kind.
            OSError: the file cannot be read.
        """
        if mmap not in (None, "r", "c"):
            raise ValueError(f"mmap is {mmap!r}, but must be None, 'r' or 'c'")
        with open(fname, "rb") as file:  # noqa: PTH123
            start = file.read(2)
        if start[:1] == b"\x80":
            raise ValueError(
                f"{os.fspath(fname)} is a pickle, as gensim writes; convec reads none, because they can run any code. "
                "In gensim, call save_word2vec_format(name, binary=True), and load_word2vec_format here"
            )
        ready = None
        if mmap == "r" or Path(fname).stat().st_size < _OVERLAPPED_BYTES:
            tensors, metadata = _core.safetensors_load(fname, mmap=mmap == "r")
        else:
            # A million keys take Python as long as a gigabyte of vectors takes the disk.
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1, "convec-load") as pool:
                reading = pool.submit(_core.safetensors_load, fname, mmap=False)
                with contextlib.suppress(ValueError, TypeError, KeyError, OSError):  # the whole file says it better
                    ready = _Keys.of(_core.safetensors_load(fname)[0])
                tensors, metadata = reading.result()
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{os.fspath(fname)} holds no KeyedVectors (its format is {metadata.get('format')!r})")
        return cls._from_tensors(tensors, metadata, ready)

    def _to_tensors(self, ignore: Iterable[str] = ()) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Arrays and strings that hold everything, for a file."""
        kinds = [_kind_of(key) for key in self.index_to_key]
        encoded = [
            str(key if kind else "").encode("utf8", "surrogatepass")
            for key, kind in zip(self.index_to_key, kinds, strict=True)
        ]
        tensors = {
            "vectors": self._vectors,
            "keys": np.frombuffer(b"".join(encoded), np.uint8),
            "key_ends": np.cumsum([len(key) for key in encoded], dtype=np.int64),
        }
        if any(kind != 1 for kind in kinds):
            tensors["key_kinds"] = np.asarray(kinds, np.uint8)
        metadata = {"format": _FORMAT, "vector_size": str(self.vector_size), "next_index": str(self.next_index)}
        objects = {}
        for name, array in self.expandos.items():
            if name in ignore:
                continue
            if array.dtype == object:
                objects[name] = array.tolist()
            else:
                tensors[f"vecattr.{name}"] = array
        if objects:
            metadata["vecattrs"] = json.dumps(objects)
        if "vectors_lockf" in vars(self):
            tensors["vectors_lockf"] = self.vectors_lockf
        return tensors, metadata

    @classmethod
    def _from_tensors(
        cls: type[_Self],
        tensors: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str],
        ready: _Keys | None = None,
    ) -> _Self:
        """The inverse of :meth:`_to_tensors`. ``ready``: the keys, where they have been decoded."""
        missing = [name for name in ("vectors", "keys", "key_ends") if name not in tensors]
        if missing:
            raise ValueError(f"the file holds no KeyedVectors: {missing[0]} is missing")
        vectors = tensors["vectors"]
        if ready is None or not ready.are_of(tensors):
            ready = _Keys.of(tensors)
        keys = ready.keys
        if vectors.ndim != 2:
            raise ValueError(f"vectors has shape {vectors.shape}, but must have two dimensions")
        if len(keys) != len(vectors):
            raise ValueError(f"there are {len(keys)} keys for {len(vectors)} vectors")
        result = cls(int(metadata.get("vector_size", vectors.shape[1])), 0, dtype=vectors.dtype)
        result.index_to_key = keys
        result.key_to_index = ready.index
        result.vectors = vectors
        result.next_index = int(metadata.get("next_index", len(keys)))
        for name, array in tensors.items():
            if name.startswith("vecattr."):
                result.expandos[name.removeprefix("vecattr.")] = np.array(array)
        for name, values in json_object(metadata.get("vecattrs", "{}"), "the text of the attributes").items():
            if not isinstance(values, list):
                raise ValueError(f"the attribute {name!r} must be a list of values")
            result.expandos[name] = np.array([*values, None], object)[:-1]
        if "vectors_lockf" in tensors:
            result.vectors_lockf = tensors["vectors_lockf"]
        return result

    @reads
    def save_word2vec_format(
        self,
        fname: PathLike,
        fvocab: PathLike | None = None,
        binary: bool = False,
        total_vec: int | None = None,
        write_header: bool = True,
        prefix: str = "",
        append: bool = False,
        sort_attr: str = "count",
    ) -> None:
        """Writes the format of the original word2vec tool; a name in .gz, .bz2 or .xz is compressed.

        Numbers in text read back as exactly the same float32. The file is complete or left as it was.

        Args:
            fname: path.
            fvocab: path of a second file, with the keys and their ``sort_attr``.
            binary: vectors as bytes instead of text.
            total_vec: the number of vectors to state in the header, where more are to be appended.
            write_header: the first line states the number of vectors and their size; GloVe's files lack it.
            prefix: before each key.
            append: adds to the end of the files.
            sort_attr: the attribute by which keys are sorted, the largest first.

        Raises:
            ValueError: a key holds a space or a line break, or ``fvocab`` is given without the attribute.
            OSError: a file cannot be written.
        """
        keys = self._whole_keys()
        if sort_attr in self.expandos:
            values = np.asarray(self.expandos[sort_attr])
            order = np.argsort(-values.astype(np.float64), kind="stable").astype(np.int64)
        elif fvocab is not None:
            raise ValueError(f"Cannot store vocabulary with '{sort_attr}' because that attribute does not exist")
        else:
            logger.warning("attribute %s not present in %s; will store in internal index_to_key order", sort_attr, self)
            order = np.arange(len(self), dtype=np.int64)
        words = [str(keys[row]) for row in order.tolist()]
        if fvocab is not None:
            logger.info("storing vocabulary in %s", fvocab)
            with replacing(fvocab, append=append) as file:
                counts = np.asarray(self.expandos[sort_attr])[order].tolist()
                file.write("".join(f"{prefix}{w} {n}\n" for w, n in zip(words, counts, strict=True)).encode())
        total = len(self) if total_vec is None else total_vec
        logger.info("storing %sx%s projection weights into %s", total, self.vector_size, fname)
        write_word2vec(
            fname,
            self._vectors.astype(np.float32, copy=False),
            words,
            order,
            binary=binary,
            header=write_header,
            total=total,
            prefix=prefix,
            append=append,
        )

    @classmethod
    def load_word2vec_format(
        cls: type[_Self],
        fname: PathLike,
        fvocab: PathLike | None = None,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
        limit: int | None = None,
        datatype: DTypeLike = np.float32,
        no_header: bool = False,
    ) -> _Self:
        """Reads the format of the original word2vec tool, mapped into memory and parsed in threads.

        Args:
            fname: path; also of a .gz, .bz2 or .xz file.
            fvocab: path of a file with the keys and their counts.
            binary: vectors are bytes instead of text.
            encoding: of the keys.
            unicode_errors: 'strict', 'ignore' or 'replace': what is done with bytes that are not of that encoding.
            limit: reads the first vectors only.
            datatype: of the vectors.
            no_header: the first line is a vector already (text only; GloVe's files).

        Returns:
            The vectors; of words that occur twice the first counts. Their attribute 'count' falls from the number of
            vectors to 1 where there is no ``fvocab``.

        Raises:
            ValueError: the file is malformed; the message says where.
            EOFError: the file ends early.
            OSError: the file cannot be read.
        """
        counts = None
        if fvocab is not None:
            logger.info("loading word counts from %s", fvocab)
            counts = _read_counts(fvocab, unicode_errors)
        logger.info("loading projection weights from %s", fname)
        words, vectors, promised = read_word2vec(
            fname,
            binary=binary,
            no_header=no_header,
            limit=limit,
            encoding=encoding,
            unicode_errors=unicode_errors,
            datatype=datatype,
        )
        index = dict(zip(reversed(words), range(len(words) - 1, -1, -1), strict=True))
        if len(index) != len(words):
            kept = sorted(index.values())
            present = set(kept)
            for row, word in enumerate(words):
                if row not in present:
                    logger.warning("duplicate word '%s' in word2vec file, ignoring all but first", word)
            logger.info("duplicate words detected, shrinking matrix size from %i to %i", len(words), len(kept))
            words, vectors = [words[row] for row in kept], vectors[kept]
        result = cls(vectors.shape[1], 0, dtype=vectors.dtype)
        result.index_to_key = words
        result.key_to_index = {word: row for row, word in enumerate(words)}
        result.vectors = vectors
        result.next_index = len(words)
        if counts is None:
            result.expandos["count"] = promised - np.arange(len(words), dtype=np.int64)
        else:
            for word in words:
                if word not in counts:
                    logger.warning("vocabulary file is incomplete: '%s' is missing", word)
            result.expandos["count"] = np.asarray([counts.get(word, 0) for word in words], np.int64)
        result.add_lifecycle_event(
            "load_word2vec_format",
            msg=f"loaded {vectors.shape} matrix of type {vectors.dtype} from {fname}",
            binary=binary,
            encoding=encoding,
        )
        return result

    @reads
    def save_tensorboard(self, folder: PathLike, attributes: Iterable[str] = ("count",)) -> None:
        """Writes ``vectors.tsv`` and ``metadata.tsv`` for TensorBoard's projector and https://projector.tensorflow.org.

        Both files are complete or left as they were.

        Args:
            folder: where to; made where it is not there.
            attributes: names of attributes (:meth:`get_vecattr`) for further columns beside the key; those that are not
                there are left out.

        Raises:
            ValueError: a key or an attribute holds a tab or a line break, or a prepared slot has no key.
            OSError: a file cannot be written.
        """
        columns: dict[str, Any] = {"word": self._whole_keys()}
        columns.update((name, self.expandos[name].tolist()) for name in attributes if name in self.expandos)
        write_projector(folder, self._vectors.astype(np.float32, copy=False), columns)

    @reads
    def save_sentence_transformers(
        self, folder: PathLike, *, lowercase: bool = False, punctuation: bool = False, overwrite: bool = True
    ) -> None:
        """Writes a folder that ``sentence_transformers.SentenceTransformer`` loads: a StaticEmbedding.

        A text becomes the mean of the vectors of its words. Words that are no keys count as zeros, so that the mean
        is shorter for them but points the same way.

        Args:
            folder: where to.
            lowercase: texts are lowercased first; for vectors of a lowercased corpus.
            punctuation: words are cut from the punctuation around them; else at white space only, as
                :class:`convec.models.Word2Vec` does.
            overwrite: whether such a folder that exists is replaced.

        Raises:
            TypeError: a key is no str.
            ValueError: a prepared slot has no key.
            FileExistsError: the folder exists and ``overwrite`` is False, or it holds something else.
            OSError: it cannot be written; what was there is untouched.
        """
        words = self._whole_keys()
        for key in words:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is of type {type(key).__name__}, but texts have words: str")
        vectors = self._vectors.astype(np.float32, copy=False)
        write_sentence_transformers(
            folder, vectors, words, lowercase=lowercase, punctuation=punctuation, overwrite=overwrite
        )

    def _whole_keys(self) -> list[Any]:
        """The keys. Raises ValueError where some are not there yet."""
        if any(key is None for key in self.index_to_key):
            raise ValueError("some prepared slots have no key yet, and cannot be written")
        return self.index_to_key

    def intersect_word2vec_format(
        self,
        fname: PathLike,
        lockf: float = 0.0,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
    ) -> None:
        """Takes the vectors of those keys that are present from a file in a word2vec format, which is read in pieces.

        Args:
            fname: path.
            lockf: goes to ``vectors_lockf`` of these keys: 0 keeps training from changing them, 1 lets it.
            binary: vectors are bytes instead of text.
            encoding: of the keys.
            unicode_errors: what is done with bytes that are not of that encoding.

        Raises:
            ValueError: the file is malformed, or its vectors have another size.
            EOFError: the file ends early.
            OSError: the file cannot be read.
        """
        logger.info("loading projection weights from %s", fname)
        # Of a word that occurs twice the last counts. Nothing changes before all of the file was found well.
        found: dict[int, NDArray[np.float32]] = {}
        for words, vectors in iterate_word2vec(fname, binary=binary, encoding=encoding, unicode_errors=unicode_errors):
            if vectors.shape[1] != self.vector_size:
                raise ValueError(
                    f"incompatible vector size {vectors.shape[1]}; the vectors here have {self.vector_size}"
                )
            known = {self.key_to_index[word]: row for row, word in enumerate(words) if word in self.key_to_index}
            found.update(zip(known, vectors[list(known.values())], strict=True))
        if found:
            self._take_over(found, lockf)
        self.add_lifecycle_event(
            "intersect_word2vec_format",
            msg=f"merged {len(found)} vectors into {self._vectors.shape} matrix from {fname}",
        )

    @writes
    def _take_over(self, found: Mapping[int, NDArray[np.float32]], lockf: float) -> None:
        rows = list(found)
        locks = vars(self).get("vectors_lockf")
        if locks is None or len(locks) != len(self):
            self.vectors_lockf = np.ones(len(self), np.float32) * (1 if locks is None else locks[:1])
        self._make_writable()
        self._vectors[rows] = np.stack(list(found.values()))
        self.vectors_lockf[rows] = lockf


def _kind_of(key: Any) -> int:
    """How a key is stored: 0 none, 1 str, 2 int."""
    if isinstance(key, str):
        return 1
    if key is None:
        return 0
    if isinstance(key, (int, np.integer)):
        return 2
    raise TypeError(f"the key {key!r} is of type {type(key).__name__}, but only str and int can be saved")


def _read_counts(path: PathLike, unicode_errors: str) -> dict[str, int]:
    """Words and their counts, two a line."""
    counts = {}
    with open_binary(path) as file:
        for number, line in enumerate(file, 1):
            try:
                word, count = line.decode("utf8", unicode_errors).strip().split()
                counts[word] = int(count)
            except UnicodeError:
                raise
            except ValueError:
                raise ValueError(f"{os.fspath(path)}: line {number} must be a word and its count") from None
    return counts
