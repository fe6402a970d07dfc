"""Word vectors of a few sentences: a script written for gensim, of which only the import has changed."""

from convec.models import Word2Vec

sentences = [
    "machine learning gives computers the ability to learn without being programmed",
    "deep learning is a branch of machine learning that uses neural networks",
    "neural networks are inspired by the human brain",
    "natural language processing lets computers understand human language",
]

# Plain strings are split on white space, with a warning: lists of words are what is meant.
model = Word2Vec(sentences, vector_size=100, window=5, min_count=1, workers=4)

# Two words at once are answered by their mean, with a warning.
for word, similarity in model.wv.most_similar("machine learning"):
    print(f"{word:<12} {similarity:.3f}")
