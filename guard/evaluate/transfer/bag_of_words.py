"""The baseline of a transfer evaluation: a logistic regression on TF-IDF of words, which knows no policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from guard.conversation import Conversation, Example
from guard.errors import need
from guard.metrics.classification import Floats

MOST_FEATURES = 100_000


def scores(train: Sequence[Example], test: Sequence[Conversation]) -> Floats:
    """[test rows]: log-odds of unsafe, by a regression fitted to the training rows with their weights.

    Words and pairs of words, sublinear term frequency, L2 with C = 4; scikit-learn's defaults otherwise.
    """
    text = need("sklearn.feature_extraction.text", "data")
    linear = need("sklearn.linear_model", "data")
    vectors = text.TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=MOST_FEATURES, sublinear_tf=True, strip_accents="unicode"
    )
    features = vectors.fit_transform([_text(example.conversation) for example in train])
    model = linear.LogisticRegression(C=4.0, max_iter=1000)
    labels = np.array([example.label == "unsafe" for example in train])
    model.fit(features, labels, sample_weight=np.array([example.weight for example in train]))
    return np.asarray(model.decision_function(vectors.transform([_text(each) for each in test])), dtype=np.float64)


def _text(conversation: Conversation) -> str:
    """The judged message, behind what was said before it: roles keep the two apart for people, not for this model."""
    return "\n".join(message.content for message in conversation.messages)
