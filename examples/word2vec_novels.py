"""Word vectors of a text file, as with gensim: train, watch, save, load, go on, ask."""

import logging
import sys
import tempfile
from pathlib import Path

from convec.datasets import text_sample_path
from convec.models import KeyedVectors, Word2Vec
from convec.models.callbacks import CallbackAny2Vec
from convec.models.word2vec import LineSentence

logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


class Watch(CallbackAny2Vec):
    """Prints the loss and a few neighbours after every epoch."""

    def on_epoch_end(self, model):
        """Called by train()."""
        near = ", ".join(word for word, _ in model.wv.most_similar("sister", topn=4))
        print(f"epoch {model.epochs_trained}: loss {model.epoch_losses[-1]:,.0f}; sister: {near}")


def main() -> None:
    # Any text will do: one sentence a line, words separated by blanks.
    path = sys.argv[1] if len(sys.argv) > 1 else text_sample_path()
    sentences = LineSentence(path)
    model = Word2Vec(sentences, sg=1, vector_size=100, window=5, min_count=5, workers=4, epochs=5, alpha=0.04,
                     compute_loss=True, callbacks=[Watch()])  # fmt: skip
    print(f"{len(model.wv):,} words of {model.corpus_total_words:,} in {model.corpus_count:,} sentences")

    with tempfile.TemporaryDirectory() as folder:
        # The whole model: training can go on.
        model.save(f"{folder}/novels.model")
        model = Word2Vec.load(f"{folder}/novels.model")
        model.train(sentences, total_examples=model.corpus_count, epochs=1, start_alpha=model.min_alpha)

        # The vectors alone, in a format that gensim and many others read.
        model.wv.save_word2vec_format(f"{folder}/novels.bin", binary=True)
        vectors = KeyedVectors.load_word2vec_format(f"{folder}/novels.bin", binary=True)
        size = Path(f"{folder}/novels.bin").stat().st_size
    print(f"saved and loaded {size:,} bytes")

    for word in ("monday", "happy", "carriage"):
        if word in vectors:
            print(f"{word}: {', '.join(near for near, _ in vectors.most_similar(word, topn=5))}")
    print("brother - he + she:", vectors.most_similar(positive=["brother", "she"], negative=["he"], topn=3))
    print(
        "of walk, ride, drive and letter, not like the others:",
        vectors.doesnt_match(["walk", "ride", "drive", "letter"]),
    )


if __name__ == "__main__":
    main()
