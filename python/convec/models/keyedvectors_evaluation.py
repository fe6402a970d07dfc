"""Evaluation of vectors by human judgements of similarity and by analogies."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from convec import _core
from convec.models._sharing import reads
from convec.models._word2vec_format import open_binary
from convec.models.keyedvectors_similarities import Similarities
from convec.models.keyedvectors_table import PathLike, unit

logger = logging.getLogger("convec.models.keyedvectors")

# Analogies that are answered by one product of matrices.
_ANALOGIES_AT_ONCE = 4096


class Correlation(NamedTuple):
    """A correlation coefficient and its two-sided p-value."""

    statistic: float
    pvalue: float


class Evaluation(Similarities):
    """How well vectors do what people expect of them."""

    # ------------------------------------------------------------------ evaluation

    def _vocabulary(self, restrict_vocab: int | None, case_insensitive: bool) -> dict[Any, int]:
        """Rows of the first keys; the first of those that differ in case only counts."""
        vocabulary: dict[Any, int] = {}
        for index, key in enumerate(self.index_to_key[:restrict_vocab]):
            vocabulary.setdefault(key.upper() if case_insensitive and isinstance(key, str) else key, index)
        return vocabulary

    @reads
    def evaluate_word_pairs(
        self,
        pairs: PathLike,
        delimiter: str = "\t",
        encoding: str = "utf8",
        restrict_vocab: int | None = 300000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
    ) -> tuple[Correlation, Correlation, float]:
        """Correlation of similarities with human judgements, such as WordSim-353 or SimLex-999.

        Args:
            pairs: path of a file with two words and a number a line; lines that start with # are comments.
            delimiter: what separates them.
            encoding: of the file.
            restrict_vocab: uses the first keys only; None for all.
            case_insensitive: compares words in upper case; of keys that differ in case the first counts.
            dummy4unknown: pairs with an absent word count as similarity 0 instead of being left out.

        Returns:
            Pearson's correlation, Spearman's (each with its two-sided p-value), and the percentage of pairs with an
            absent word.

        Raises:
            ValueError: no pair can be used, or only one.
        """
        vocabulary = self._vocabulary(restrict_vocab, case_insensitive)
        gold: list[float] = []
        rows: list[tuple[int, int]] = []
        unknown = 0
        with open_binary(pairs) as file:
            for number, data in enumerate(file):
                line = data.decode(encoding)
                if line.startswith("#"):
                    continue
                try:
                    first, second, judgement = line.split(delimiter)
                    value = float(judgement)
                except ValueError:
                    logger.info("Skipping invalid line #%d in %s", number, pairs)
                    continue
                if case_insensitive:
                    first, second = first.upper(), second.upper()
                if first in vocabulary and second in vocabulary:
                    gold.append(value)
                    rows.append((vocabulary[first], vocabulary[second]))
                    continue
                unknown += 1
                if dummy4unknown:
                    gold.append(value)
                    rows.append((-1, -1))
                else:
                    logger.info("Skipping line #%d with OOV words: %s", number, line.strip())
        if not gold:
            raise ValueError(
                f"No valid similarity judgements found in {pairs}: either invalid format or all are out-of-vocabulary "
                f"in {self}"
            )
        if len(gold) == 1:
            raise ValueError(f"only one pair of {pairs} can be used in {self}, but a correlation needs two")
        indices = np.asarray(rows, np.int64)
        vectors = unit(self._vectors[indices].astype(np.float64))
        # Rounded to what the vectors can tell apart, so that equal similarities are ties.
        similarities = np.einsum("ij,ij->i", vectors[:, 0], vectors[:, 1]).astype(np.float32).astype(np.float64)
        model = np.where(indices[:, 0] < 0, 0.0, similarities)
        judgements = np.asarray(gold, np.float64)
        pearson = Correlation(*_core.pearson_correlation(judgements, model))
        spearman = Correlation(*_core.spearman_correlation(judgements, model))
        oov_ratio = 100.0 * unknown / (len(gold) if dummy4unknown else len(gold) + unknown)
        self.log_evaluate_word_pairs(pearson, spearman, oov_ratio, pairs)
        return pearson, spearman, oov_ratio

    @staticmethod
    def log_evaluate_word_pairs(
        pearson: tuple[float, float], spearman: tuple[float, float], oov: float, pairs: PathLike
    ) -> None:
        """Logs what :meth:`evaluate_word_pairs` found."""
        logger.info("Pearson correlation coefficient against %s: %.4f", pairs, pearson[0])
        logger.info("Spearman rank-order correlation coefficient against %s: %.4f", pairs, spearman[0])
        logger.info("Pairs with unknown words ratio: %.1f%%", oov)

    @reads
    def evaluate_word_analogies(
        self,
        analogies: PathLike,
        restrict_vocab: int | None = 300000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
        similarity_function: str = "most_similar",
    ) -> tuple[float, list[dict[str, Any]]]:
        """Accuracy in questions 'a is to b as c is to ...', answered by the nearest neighbour of b - a + c.

        Args:
            analogies: path of a file with four words a line, in sections that begin with ``: name``.
            restrict_vocab: uses and searches the first keys only; None for all.
            case_insensitive: compares words in upper case; of keys that differ in case the first counts.
            dummy4unknown: questions with an absent word count as wrong instead of being left out.
            similarity_function: name of the method that answers: 'most_similar' (all questions at once, as products
                of matrices) or another, such as 'most_similar_cosmul' (one by one).

        Returns:
            The share of correct answers, and a dictionary a section, the last for the total: its name ('section') and
            the lists of questions answered correctly ('correct') and wrongly ('incorrect').

        Raises:
            ValueError: there is no question, or one before the first section.
        """
        vocabulary = self._vocabulary(restrict_vocab, case_insensitive)
        logger.info("Evaluating word analogies for top %s words in the model on %s", restrict_vocab, analogies)
        sections: list[dict[str, Any]] = []
        # Of each question: its section, its words, and their rows where all are there.
        questions: list[tuple[dict[str, Any], tuple[Any, ...], list[int]]] = []
        unknown = 0
        with open_binary(analogies) as file:
            for number, data in enumerate(file):
                line = data.decode("utf8")
                if line.startswith(": "):
                    sections.append({"section": line.lstrip(": ").strip(), "correct": [], "incorrect": []})
                    continue
                if not sections:
                    raise ValueError(f"Missing section header before line #{number} in {analogies}")
                words = tuple((line.upper() if case_insensitive else line).split())
                if len(words) != 4:
                    logger.info("Skipping invalid line #%i in %s", number, analogies)
                    continue
                rows = [vocabulary[word] for word in words if word in vocabulary]
                if len(rows) < 4:
                    unknown += 1
                questions.append((sections[-1], words, rows if len(rows) == 4 else []))
        if not questions:
            raise ValueError(f"No analogies found in {analogies}: four words a line are expected")

        answers = iter(self._answers([rows for _, _, rows in questions if rows], restrict_vocab, similarity_function))
        for section, words, rows in questions:
            if not rows:
                if dummy4unknown:
                    section["incorrect"].append(words)
                continue
            predicted = None
            for key in next(answers):
                predicted = key.upper() if case_insensitive and isinstance(key, str) else key
                if predicted in vocabulary and predicted not in words[:3]:
                    break
            section["correct" if predicted == words[3] else "incorrect"].append(words)
        total = {
            "section": "Total accuracy",
            "correct": [words for section in sections for words in section["correct"]],
            "incorrect": [words for section in sections for words in section["incorrect"]],
        }
        for section in sections:
            self._log_evaluate_word_analogies(section)
        logger.info("Quadruplets with out-of-vocabulary words: %.1f%%", 100.0 * unknown / len(questions))
        if not dummy4unknown:
            logger.info(
                "NB: analogies containing OOV words were skipped from evaluation! "
                'To change this behavior, use "dummy4unknown=True"'
            )
        score = self._log_evaluate_word_analogies(total)
        return score, [*sections, total]

    def _answers(self, rows: list[list[int]], restrict_vocab: int | None, function: str) -> Iterator[list[Any]]:
        """The five nearest keys for each question, given by the rows of a, b and c (and of the answer)."""
        if function != "most_similar":
            method = getattr(self, function)
            for a, b, c, _ in rows:
                found = method(
                    positive=[self.index_to_key[b], self.index_to_key[c]],
                    negative=[self.index_to_key[a]],
                    topn=5,
                    restrict_vocab=restrict_vocab,
                )
                yield [key for key, _ in found]
            return
        begin, end = self._clip(0, None, restrict_vocab)
        for first in range(0, len(rows), _ANALOGIES_AT_ONCE):
            terms = np.asarray(rows[first : first + _ANALOGIES_AT_ONCE], np.int64)[:, :3]
            first_term, second, third = (unit(self._vectors[column].astype(np.float32)) for column in terms.T)
            queries = np.ascontiguousarray(unit(second + third - first_term))
            found, _ = self._nearest(queries, 5, begin, end, terms.tolist())
            for neighbours in found.tolist():
                yield [self.index_to_key[row] for row in neighbours if row >= 0]

    @staticmethod
    def _log_evaluate_word_analogies(section: Mapping[str, Any]) -> float:
        correct, incorrect = len(section["correct"]), len(section["incorrect"])
        if correct + incorrect == 0:
            return 0.0
        Evaluation.log_accuracy(section)
        return correct / (correct + incorrect)

    @staticmethod
    def log_accuracy(section: Mapping[str, Any]) -> None:
        """Logs the share of correct answers in a section of :meth:`evaluate_word_analogies`."""
        correct, incorrect = len(section["correct"]), len(section["incorrect"])
        if correct + incorrect > 0:
            score = 100.0 * correct / (correct + incorrect)
            logger.info("%s: %.1f%% (%i/%i)", section["section"], score, correct, correct + incorrect)
