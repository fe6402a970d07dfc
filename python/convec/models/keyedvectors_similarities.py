"""Nearest neighbours and similarities of vectors by key."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convec import _core
from convec.models._callers import stack_level
from convec.models._sharing import reads
from convec.models.keyedvectors_device import DeviceTable
from convec.models.keyedvectors_table import KEY_TYPES, Key, Vector, as_list, deprecated, unit

logger = logging.getLogger("convec.models.keyedvectors")


class Similarities(DeviceTable):
    """What is near to what, by the angle between vectors."""

    # ------------------------------------------------------------------ nearest neighbours

    def _search(
        self, find: Callable[..., tuple[NDArray[np.int64], NDArray[np.float32]]], topn: int, begin: int, end: int,
        excluded: list[list[int]],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:  # fmt: skip
        """Calls ``find(vectors, norms, topn=, begin=, end=, excluded=)``, block by block; (queries, topn) each."""
        parts = []
        for first, vectors, norms in self._blocks(begin, end):
            moved = [[row - first for row in rows] for rows in excluded]
            rows, values = find(vectors, norms, topn=topn, begin=0, end=len(vectors), excluded=moved)
            parts.append((np.where(rows < 0, rows, rows + first), values))
        if not parts:
            return np.empty((1, 0), np.int64), np.empty((1, 0), np.float32)
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([part[0] for part in parts], axis=-1)
        values = np.concatenate([part[1] for part in parts], axis=-1)
        order = np.lexsort((rows, -values), axis=-1)[..., :topn]
        return np.take_along_axis(rows, order, -1), np.take_along_axis(values, order, -1)

    def _nearest(
        self, queries: NDArray[np.float32], topn: int, begin: int, end: int, excluded: list[list[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        def there(table: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            rows, values = table.nearest(queries, topn=topn, begin=begin, end=end, excluded=excluded)
            return rows, values

        def find(vectors: Any, norms: Any, **options: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            return _core.nearest_vectors(vectors, norms, queries, **options)

        found = self._on_device(len(queries), begin, end, there)
        return self._search(find, topn, begin, end, excluded) if found is None else found

    def _cosines(self, vector: Vector, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Similarity of a vector of unit length and rows [begin, end)."""
        query = np.ascontiguousarray(vector, np.float32)[np.newaxis]
        end = len(self._vectors) if end is None else end

        def there(table: Any) -> NDArray[np.float32]:
            similarities: NDArray[np.float32] = table.similarities(query, begin, end)[0]
            return similarities

        found = self._on_device(1, begin, end, there)
        if found is not None:
            return found
        blocks = self._blocks(begin, end)
        parts = [_core.vector_similarities(vectors, norms, query)[0] for _, vectors, norms in blocks]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _pairs(self, rows: NDArray[np.int64], values: NDArray[np.float32]) -> list[tuple[Any, float]]:
        keys = self.index_to_key
        return [(keys[row], value) for row, value in zip(rows.tolist(), values.tolist(), strict=True) if row >= 0]

    def _words_of(self, key: Any) -> list[str]:
        """The words of an absent key that can stand in for it, or nothing."""
        if not isinstance(key, str) or key in self:
            return []
        words = key.split()
        return words if len(words) > 1 and all(word in self for word in words) else []

    def _terms(self, positive: Any, negative: Any, weighted: bool = True) -> tuple[list[Any], list[float]]:
        """Keys and vectors with their weights. An absent key of several words that are present becomes these.

        ``weighted``: pairs of a key or vector and its weight are allowed.
        """
        keys: list[Any] = []
        weights: list[float] = []
        for items, default in ((as_list(positive), 1.0), (as_list(negative), -1.0)):
            for item in items:
                key, weight = item, default
                if weighted and isinstance(item, (tuple, list)) and len(item) == 2:
                    key, weight = item
                if not isinstance(key, (*KEY_TYPES, np.ndarray)):
                    raise TypeError(
                        f"{item!r} is neither a key nor a vector"
                        f"{' nor a pair of one and its weight' if weighted else ''}; several of them go into a list"
                    )
                words = self._words_of(key)
                if words:
                    shown = ", ".join(repr(word) for word in words)
                    warnings.warn(
                        f"Key {key!r} is not present; the mean of its words answers instead. Pass [{shown}] to ask for "
                        "that.",
                        UserWarning,
                        stacklevel=stack_level(),
                    )
                parts: list[Any] = words if words else [key]
                keys.extend(parts)
                weights.extend([weight / len(parts)] * len(parts))
        return keys, weights

    def _rows_of(self, keys: Iterable[Any]) -> list[int]:
        return [self.get_index(key) for key in keys if isinstance(key, KEY_TYPES) and key in self]

    def _clip(self, clip_start: int, clip_end: int | None, restrict_vocab: int | None) -> tuple[int, int]:
        if restrict_vocab:
            clip_start, clip_end = 0, restrict_vocab
        begin, end, _ = slice(clip_start, clip_end or None).indices(len(self._vectors))
        return begin, max(begin, end)

    def most_similar(
        self,
        positive: Any = None,
        negative: Any = None,
        topn: int | None = 10,
        clip_start: int = 0,
        clip_end: int | None = None,
        restrict_vocab: int | None = None,
        indexer: Any = None,
    ) -> Any:
        """The keys nearest to a mean of vectors, by cosine similarity; the keys asked with are left out.

        A key that is absent, but all of whose words (split at white space) are present, is answered by their mean,
        with a UserWarning.

        Args:
            positive: a key, a vector, or a list of keys, row numbers, vectors and ``(key or vector, weight)`` pairs;
                the weight is 1 without.
            negative: the same; the weight is -1 without.
            topn: neighbours to return; None returns the similarities of all vectors.
            clip_start: first row to search.
            clip_end: row to stop before.
            restrict_vocab: searches the first rows only, whatever the clips say.
            indexer: an object whose ``most_similar(vector, topn)`` answers instead.

        Returns:
            ``[(key, similarity), ...]``, the most similar first, ties in the order of the rows; an array of one float
            a row where topn is None.

        Raises:
            KeyError: a key is absent; the message lists near spellings.
            ValueError: there is neither a positive nor a negative term.
        """
        if topn is not None and topn < 1:
            return []
        with self.reading():
            keys, weights = self._terms(positive, negative)
            mean = self.get_mean_vector(keys, weights, pre_normalize=True, post_normalize=True, ignore_missing=False)
            if indexer is None or topn is None:
                begin, end = self._clip(clip_start, clip_end, restrict_vocab)
                if topn is None:
                    return self._cosines(mean, begin, end)
                rows, values = self._nearest(mean[np.newaxis], int(topn), begin, end, [self._rows_of(keys)])
                return self._pairs(rows[0], values[0])
        return indexer.most_similar(mean, topn)

    @reads
    def most_similar_cosmul(
        self, positive: Any = None, negative: Any = None, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Any:
        """As :meth:`most_similar`, by the product of similarities (3CosMul, Levy and Goldberg, 2014, equation 4).

        Args:
            positive: a key, a vector or a list of them.
            negative: the same.
            topn: neighbours to return; None returns the value of every row.
            restrict_vocab: searches the first rows only.

        Returns:
            As :meth:`most_similar`.

        Raises:
            KeyError: a key is absent.
            TypeError: a term has a weight, which would not change the order.
            ValueError: there is no positive term.
        """
        if topn is not None and topn < 1:
            return []
        terms = [self._terms(positive, None, weighted=False)[0], self._terms(None, negative, weighted=False)[0]]
        if not terms[0]:
            raise ValueError("cannot compute similarity with no input")
        plus, minus = (
            np.array(
                [key if isinstance(key, np.ndarray) else self.get_vector(key, norm=True) for key in keys], np.float32
            ).reshape(len(keys), self.vector_size)
            for keys in terms
        )
        begin, end = self._clip(0, None, restrict_vocab)
        count = len(plus) + len(minus)
        if topn is None:
            there = self._on_device(count, begin, end, lambda table: table.multiplicative(plus, minus, begin, end))
            if there is not None:
                return there
            blocks = self._blocks(begin, end)
            parts = [_core.multiplicative_similarities(v, norms, plus, minus) for _, v, norms in blocks]
            return np.concatenate(parts) if parts else np.empty(0, np.float32)

        def find(vectors: Any, norms: Any, *, excluded: Any, **options: Any) -> Any:
            rows, values = _core.nearest_multiplicative(vectors, norms, plus, minus, excluded=excluded[0], **options)
            return rows[np.newaxis], values[np.newaxis]

        excluded = self._rows_of(terms[0] + terms[1])
        options = {"topn": int(topn), "begin": begin, "end": end, "excluded": excluded}
        pair = self._on_device(count, begin, end, lambda table: table.nearest_multiplicative(plus, minus, **options))
        if pair is not None:
            return self._pairs(*pair)
        rows, values = self._search(find, int(topn), begin, end, [excluded])
        return self._pairs(rows[0], values[0])

    def similar_by_word(self, word: Key, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """:meth:`most_similar` of one key."""
        return self.similar_by_key(word, topn, restrict_vocab)

    def similar_by_key(self, key: Key, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """:meth:`most_similar` of one key."""
        return self.most_similar(positive=[key], topn=topn, restrict_vocab=restrict_vocab)

    def similar_by_vector(self, vector: Vector, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """:meth:`most_similar` of one vector."""
        return self.most_similar(positive=[np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def most_similar_to_given(self, key1: Key, keys_list: Sequence[Key]) -> Key:
        """The one of several keys that is most similar to another."""
        return keys_list[int(np.argmax([self.similarity(key1, key) for key in keys_list]))]

    @reads
    def closer_than(self, key1: Key, key2: Key) -> list[Any]:
        """All keys that are nearer to key1 than key2 is, in the order of the rows.

        Raises:
            KeyError: a key is absent.
        """
        return [self.index_to_key[index] for index in self._nearer(key1, key2).tolist()]

    @reads
    def _nearer(self, key1: Key, key2: Key) -> NDArray[np.intp]:
        distances = self.distances(key1)
        nearer: NDArray[np.intp] = np.flatnonzero(distances < distances[self.get_index(key2)])
        return np.asarray(nearer[nearer != self.get_index(key1)])

    def words_closer_than(self, word1: Key, word2: Key) -> list[Any]:
        """Deprecated name of :meth:`closer_than`."""
        deprecated("words_closer_than", "closer_than")
        return self.closer_than(word1, word2)

    def rank(self, key1: Key, key2: Key) -> int:
        """The place of key2 among all keys by their distance from key1; the nearest has rank 1."""
        return len(self._nearer(key1, key2)) + 1

    # ------------------------------------------------------------------ similarities

    def similarity(self, w1: Key, w2: Key) -> Any:
        """Cosine similarity of two keys.

        Raises:
            KeyError: a key is absent.
        """
        # In float64 no square of a float32 number overflows or vanishes.
        first, second = self.get_vector(w1).astype(np.float64), self.get_vector(w2).astype(np.float64)
        squares = float(np.dot(first, first)) * float(np.dot(second, second))
        return self._vectors.dtype.type(float(np.dot(first, second)) / math.sqrt(squares) if squares > 0 else 0)

    def distance(self, w1: Key, w2: Key) -> Any:
        """1 - :meth:`similarity`."""
        return 1 - self.similarity(w1, w2)

    @reads
    def distances(self, word_or_vector: Key | Vector, other_words: Iterable[Key] = ()) -> NDArray[Any]:
        """1 - cosine similarity of a key or vector and all keys, or some.

        Args:
            word_or_vector: the key or the vector.
            other_words: the keys; all, in the order of the rows, where there are none.

        Raises:
            KeyError: a key is absent.
        """
        vector = self.get_vector(word_or_vector) if isinstance(word_or_vector, KEY_TYPES) else word_or_vector
        others = list(other_words)
        if others:
            return np.asarray(1 - self.cosine_similarities(vector, self[others]))
        return np.asarray(1 - self._cosines(unit(vector)))

    @staticmethod
    def cosine_similarities(vector_1: Vector, vectors_all: Vector) -> NDArray[Any]:
        """Cosine similarities of one vector (dim,) and others (count, dim): (count,). 0 for a vector of zeros."""
        return np.asarray(unit(np.asarray(vectors_all)) @ unit(np.asarray(vector_1)))

    def n_similarity(self, ws1: Any, ws2: Any) -> Any:
        """Cosine similarity of the means of two sets of keys; absent keys are left out.

        Raises:
            ZeroDivisionError: a set is empty.
        """
        first, second = as_list(ws1), as_list(ws2)
        if not (first and second):
            raise ZeroDivisionError("At least one of the passed list is empty.")
        means = [self.get_mean_vector(keys, pre_normalize=False) for keys in (first, second)]
        return np.dot(unit(means[0]), unit(means[1]))

    def relative_cosine_similarity(self, wa: Key, wb: Key, topn: int = 10) -> float:
        """Similarity of two keys divided by the sum of those of the first and its ``topn`` neighbours.

        Leeuwenberg et al., "A Minimally Supervised Approach for Synonym Extraction with Word Embeddings", 2016,
        equation 1.

        Raises:
            KeyError: a key is absent.
            ValueError: there are no neighbours.
        """
        neighbours = self.similar_by_word(wa, topn)
        if not neighbours:
            raise ValueError("Cannot calculate relative cosine similarity without any similar words.")
        total: float = sum(similarity for _, similarity in neighbours)
        return float(self.similarity(wa, wb)) / total

    def rank_by_centrality(self, words: Sequence[Key], use_norm: bool = True) -> list[tuple[Any, Key]]:
        """Keys by their similarity to the mean of all of them, ``[(similarity, key), ...]``, the nearest first.

        Args:
            words: the keys; absent ones are left out, with a log line.
            use_norm: vectors are taken at unit length.

        Raises:
            ValueError: no key is present.
        """
        used = [word for word in words if word in self]
        if len(used) != len(words):
            logger.warning(
                "vectors for words %s are not present in the model, ignoring these words", set(words) - set(used)
            )
        if not used:
            raise ValueError("cannot select a word from an empty list")
        vectors = np.stack([self.get_vector(word, norm=use_norm) for word in used]).astype(np.float32)
        mean = self.get_mean_vector(vectors, post_normalize=True)
        return sorted(zip(vectors @ mean, used, strict=True), reverse=True)

    def doesnt_match(self, words: Sequence[Key]) -> Key:
        """The key that is furthest from the mean of all of them.

        Raises:
            ValueError: no key is present.
        """
        return self.rank_by_centrality(words)[-1][1]

    @reads
    def wmdistance(self, document1: Sequence[Key], document2: Sequence[Key], norm: bool = True) -> float:
        """Word Mover's Distance of two lists of keys (Kusner et al., "From Word Embeddings To Document Distances").

        Args:
            document1: the keys; absent ones are left out.
            document2: the same.
            norm: vectors are taken at unit length.

        Returns:
            The distance; infinity where a document has no key that is present.

        Raises:
            ImportError: POT, which solves the transport problem, is not installed.
        """
        try:
            from ot import emd2
        except ImportError as error:
            raise ImportError("wmdistance needs POT: pip install 'convec[wmd]' (or POT)") from error
        documents = [[word for word in document if word in self] for document in (document1, document2)]
        left_out = [len(document1) - len(documents[0]), len(document2) - len(documents[1])]
        if any(left_out):
            logger.info("Removed %d and %d OOV words from document 1 and 2 (respectively).", *left_out)
        if not all(documents):
            logger.warning("At least one of the documents had no words that were in the vocabulary.")
            return float("inf")
        vectors, masses = [], []
        for document in documents:
            words, counts = np.unique([self.get_index(word) for word in document], return_counts=True)
            vectors.append(np.stack([self.get_vector(word, norm=norm) for word in words]).astype(np.float64))
            masses.append(counts / len(document))
        distances = np.linalg.norm(vectors[0][:, np.newaxis] - vectors[1][np.newaxis], axis=-1)
        return float(emd2(*masses, distances)) if distances.any() else 0.0

    def similarity_unseen_docs(self, *args: Any, **kwargs: Any) -> None:
        """Not for vectors alone: raises NotImplementedError, as in gensim."""
        raise NotImplementedError("Call similarity_unseen_docs on a Doc2Vec model instead.")
