"""What clusters are about: the words that set the rows of one apart from those of the others."""

from collections.abc import Sequence

import numpy as np
from curricle.curate.words import unicode_words

CHARACTERS = 2_000
"""Of a text, which are looked at."""
LETTERS = 30
"""What has more is no word that a person would read."""


def distinctive_words(clusters: Sequence[Sequence[str]], most: int = 8) -> list[list[str]]:
    """For each cluster, given as texts, its words of the greatest weight, in lower case; fewer where it has no more.

    The weight is BERTopic's c-TF-IDF (arXiv 2203.05794) over in how many texts a word is: a cluster is one document,
    and what is in every one weighs least. scikit-learn, whose vectorizer keeps the counts sparse.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    texts = [text[:CHARACTERS] for cluster in clusters for text in cluster]
    if not any(map(_words, texts)):
        return [[] for _ in clusters]
    vectorizer = CountVectorizer(analyzer=_words, binary=True)
    by_text = vectorizer.fit_transform(texts)
    cluster_of = np.repeat(np.arange(len(clusters)), [len(cluster) for cluster in clusters])
    shape = len(clusters), len(texts)
    counts = csr_matrix((np.ones(len(texts)), (cluster_of, np.arange(len(texts)))), shape) @ by_text
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray()
    names = vectorizer.get_feature_names_out()
    order = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    return [[str(names[word]) for word in ranks if weights[row, word] > 0] for row, ranks in enumerate(order)]


def _words(text: str) -> list[str]:
    """Those of letters: numbers say little, and every list would begin with them."""
    return [word.lower() for word in unicode_words(text) if word.isalpha() and len(word) <= LETTERS]
