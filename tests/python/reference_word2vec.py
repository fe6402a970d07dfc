"""Word2Vec as the compiled trainer does it with one thread, in plain float64 NumPy: the same random numbers (Philox
4x32-10), the same negatives, the same order of updates. Slow; for tiny texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MASK = 0xFFFFFFFF
SEGMENT = 128  # positions that share a pool of negatives
BLOCK = 2048  # positions whose sentences are trained with one learning rate
MOST_OUTPUTS = 8
MOST_CONTEXTS = 32
TEXT, POOL, LAPS = 0, 1, 2


def philox(key: int, counter: int, stream: int) -> tuple[int, int, int, int]:
    """Salmon et al. (2011): four words from a 64-bit key and a 128-bit counter."""
    c = [counter & MASK, counter >> 32 & MASK, stream & MASK, stream >> 32 & MASK]
    k = [key & MASK, key >> 32 & MASK]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & MASK, p0 >> 32 ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c[0], c[1], c[2], c[3]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@dataclass
class Reference:
    """The tables of a model, as float64 copies, and what is needed to train them."""

    counts: np.ndarray
    vectors: np.ndarray
    syn1neg: np.ndarray | None
    syn1: np.ndarray | None
    paths: list[tuple[np.ndarray, np.ndarray]]  # points and codes of each word, or empty
    sg: bool
    negative: int
    window: int
    shrink_windows: bool
    cbow_mean: bool
    seed: int
    sample: float
    ns_exponent: float
    loss: float = 0.0
    kept_words: int = 0

    def thresholds(self) -> np.ndarray | None:
        """Probability of survival in units of 2^-32, by word2vec.c's formula."""
        if self.sample == 0:
            return None
        t = self.sample * self.counts.sum() if self.sample < 1 else int(self.sample * (3 + 5**0.5) / 2)
        probability = (np.sqrt(self.counts / t) + 1) * (t / self.counts)
        return (np.minimum(probability, 1) * (2**32 - 1)).astype(np.uint64)

    def alias_table(self) -> list[tuple[int, int]]:
        """Vose's construction, in the order the trainer makes it."""
        share = self.counts.astype(np.float64) ** self.ns_exponent
        share *= len(share) / share.sum()
        table = [(MASK, i) for i in range(len(share))]
        small = [i for i in range(len(share)) if share[i] < 1]
        large = [i for i in range(len(share)) if share[i] >= 1]
        while small and large:
            low, high = small.pop(), large[-1]
            table[low] = (int(share[low] * MASK), high)
            share[high] -= 1 - share[low]
            if share[high] < 1:
                small.append(large.pop())
        return table

    def negatives_of(self, segment: int, epoch: int, table: list[tuple[int, int]]) -> list[int]:
        """All the samples of a segment: entry place * negative + j is sample j of the word at that place."""
        size = 16
        while size < 12 * self.negative:
            size *= 2
        pool = []
        for i in range(size // 4):
            for word in philox(self.seed, segment * (size // 4) + i, epoch << 32 | POOL):
                product = word * len(table)
                index, fraction = product >> 32, product & MASK
                pool.append(index if fraction < table[index][0] else table[index][1])
        entries = []
        for lap in range((SEGMENT * self.negative + size - 1) // size):
            stride, offset, *_ = philox(self.seed, (segment << 16) + lap, epoch << 32 | LAPS)
            entries += [pool[(k * (stride | 1) + offset) % size] for k in range(size)]
        return entries

    def train(self, tokens: list[int], *, position: int = 0, epoch: int = 0, words_done: int = 0, words_total: int,
              alpha: float, min_alpha: float) -> None:  # fmt: skip
        """One epoch, or whole sentences of it."""
        table = self.alias_table() if self.negative else []
        starts = [0] + [i + 1 for i, token in enumerate(tokens) if token < 0 and i + 1 < len(tokens)]
        for number in range((len(tokens) + BLOCK - 1) // BLOCK):
            inside = [s for s in starts if number * BLOCK <= s < (number + 1) * BLOCK]
            later = [s for s in starts if s >= (number + 1) * BLOCK]
            if inside:
                done = (words_done + inside[0]) / words_total
                rate = np.float32(alpha - (alpha - min_alpha) * min(done, 1))
                end = later[0] if later else len(tokens)
                self.train_block(tokens[inside[0] : end], position + inside[0], epoch, float(rate), table)

    def train_block(self, tokens: list[int], position: int, epoch: int, rate: float, table: list) -> None:
        thresholds = self.thresholds()
        kept: list[tuple[int, int, int, int]] = []  # word, position, radius, sentence
        sentence = 0
        for i, token in enumerate(tokens):
            if token < 0:
                sentence += 1
                continue
            at = position + i
            random = philox(self.seed, at // 2, epoch << 32 | TEXT)[2 * (at % 2) :]
            if thresholds is None or random[0] <= thresholds[token]:
                radius = 1 + (random[1] * self.window >> 32) if self.shrink_windows else self.window
                kept.append((token, at, radius, sentence))
        self.kept_words += len(kept)
        windows = []
        for i, (_, _, radius, sentence) in enumerate(kept):
            around = range(max(0, i - radius), min(len(kept), i + radius + 1))
            windows.append([c for c in around if c != i and kept[c][3] == sentence])
        first = 0
        while first < len(kept):
            segment = kept[first][1] // SEGMENT
            last = first
            while last < len(kept) and kept[last][1] // SEGMENT == segment:
                last += 1
            entries = self.negatives_of(segment, epoch, table) if self.negative else []
            outputs = [self.outputs_of(kept[i][0], kept[i][1], entries) for i in range(first, last)]
            half = (last - first + 1) // 2
            for i in range(first, first + half):
                pair = [i] + ([i + half] if i + half < last else [])
                sizes = {len(outputs[p - first]) for p in pair}
                contexts = [[kept[c][0] for c in windows[p]] for p in pair]
                fits = all(len(c) <= MOST_CONTEXTS for c in contexts) if self.sg else all(contexts)
                together = len(pair) == 2 and len(sizes) == 1 and 0 < max(sizes) <= MOST_OUTPUTS and fits
                if together:
                    changes = [self.changes(c, outputs[p - first], rate) for p, c in zip(pair, contexts, strict=True)]
                    for (p, c), change in zip(zip(pair, contexts, strict=True), changes, strict=True):
                        self.apply(c, outputs[p - first], *change)
                else:
                    for p, c in zip(pair, contexts, strict=True):
                        self.window_alone(c, outputs[p - first], rate)
            first = last

    def outputs_of(self, word: int, position: int, entries: list[int]) -> list[tuple[np.ndarray, float, float]]:
        """Rows a word is trained against, with labels and weights."""
        outputs = []
        if self.syn1 is not None:
            outputs += [(self.syn1[p], 1.0 - float(c), 1.0) for p, c in zip(*self.paths[word], strict=True)]
        if self.negative:
            place = position % SEGMENT * self.negative
            samples = entries[place : place + self.negative]
            outputs.append((self.syn1neg[word], 1.0, 1.0))
            seen = [word]
            for sample in samples:
                new = sample not in seen
                weight = float(samples.count(sample)) if new else 0.0
                row = self.syn1neg[sample] if new else np.zeros_like(self.syn1neg[sample])
                outputs.append((row, 0.0, weight))
                seen.append(sample)
        return outputs

    @staticmethod
    def groups(outputs: list) -> list[list]:
        result = []
        count = (len(outputs) + MOST_OUTPUTS - 1) // MOST_OUTPUTS
        while count:
            size = len(outputs) // count
            result.append(outputs[:size])
            outputs = outputs[size:]
            count -= 1
        return result

    def inputs_of(self, context: list[int]) -> np.ndarray:
        rows = self.vectors[context]
        if self.sg:
            return rows
        return (rows.mean(axis=0) if self.cbow_mean else rows.sum(axis=0))[np.newaxis]

    def gradients(self, x: np.ndarray, outputs: list, rate: float) -> tuple[np.ndarray, np.ndarray]:
        y = np.array([row for row, _, _ in outputs])
        labels = np.array([label for _, label, _ in outputs])
        weights = np.array([weight for _, _, weight in outputs])
        dots = x @ y.T
        self.loss += float((weights * np.logaddexp(0, np.where(labels > 0, -dots, dots))).sum())
        return (labels - sigmoid(dots)) * (weights * rate), y

    def changes(self, context: list[int], outputs: list, rate: float) -> tuple[np.ndarray, np.ndarray | None]:
        """What a window that is trained together with another takes from the state before both."""
        if not context:
            return np.zeros((0, len(outputs))), None
        x = self.inputs_of(context)
        return self.gradients(x, outputs, rate)[0], None if self.sg else x

    def apply(self, context: list[int], outputs: list, g: np.ndarray, mean: np.ndarray | None) -> None:
        if not context:
            return
        y = np.array([row for row, _, _ in outputs])
        if self.sg:
            # Words of the window change one after the other: one that is in it twice is met again changed.
            change = np.zeros_like(y)
            for row, word in zip(g, context, strict=True):
                change += np.outer(row, self.vectors[word])
                self.vectors[word] += row @ y
        else:
            change = g.T @ mean
            delta = (g @ y)[0] * (1 if self.cbow_mean else 1 / len(context))
            for word in context:
                self.vectors[word] += delta
        for (row, _, _), step in zip(outputs, change, strict=True):
            row += step

    def window_alone(self, context: list[int], outputs: list, rate: float) -> None:
        if self.sg:
            for start in range(0, len(context), MOST_CONTEXTS):
                part = context[start : start + MOST_CONTEXTS]
                for group in self.groups(outputs):
                    self.apply(part, group, *self.changes(part, group, rate))
            return
        if not context:
            return
        x = self.inputs_of(context)
        delta = np.zeros(x.shape[1])
        for group in self.groups(outputs):
            g, y = self.gradients(x, group, rate)
            delta += (g @ y)[0]
            for (row, _, _), step in zip(group, g.T @ x, strict=True):
                row += step
        for word in context:
            self.vectors[word] += delta * (1 if self.cbow_mean else 1 / len(context))
