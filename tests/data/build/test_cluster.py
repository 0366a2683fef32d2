"""Clusters join what is nearly the same, and splits follow them."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.data.build import cluster
from guard.data.build.near import signatures
from guard.data.build.split import Shares, split_of, unit_hash
from guard.data.ingest.fingerprint import hash64, text_key
from guard.data.row import Row

LONG = (
    "I planted three rows of beans beside the old stone wall last spring, and since then a hedgehog has moved in under "
    "the compost heap. Should I move the beans, or the hedgehog, or leave both of them as they are until the autumn?"
)


def row(prompt, response=None, groups=(), source="made-up"):
    return Row(source, "prompt" if response is None else "response", prompt, response, "safe", (), "en", groups)


def clusters(rows):
    """The cluster of each row, as the text of the first row in it."""
    keys = np.array([hash64(text_key(one.prompt)) for one in rows], dtype=np.uint64)
    groups = [(index, hash64(group)) for index, one in enumerate(rows) for group in one.groups]
    group_rows = np.array([index for index, _ in groups], dtype=np.int64)
    group_keys = np.array([key for _, key in groups], dtype=np.uint64)
    found = cluster.clusters(keys, group_rows, group_keys, signatures([one.prompt for one in rows]))
    return [rows[first].prompt for first in found.tolist()]


def together(*rows):
    return len(set(clusters(rows))) == 1


def test_near_duplicates_are_joined():
    assert together(row(LONG), row(LONG.replace("last spring", "this spring")))
    assert together(row(LONG), row(LONG.upper() + "!!"))


def test_texts_without_spaces_are_compared_by_character():
    text = "去年春天我在老石墙旁边种了三排豆子从那以后一只刺猬就搬进了堆肥堆下面"
    assert together(row(text), row(text + "吗"))
    assert not together(row(text), row("今天的天气很好我们一起去公园散步然后回家吃晚饭再看一会儿书就睡觉"))


def test_different_texts_are_not_joined():
    words = [f"word{number}" for number in range(400)]
    shuffled = random.Random(5)
    rows = [row(" ".join(shuffled.sample(words, shuffled.choice([2, 5, 20, 60])))) for _ in range(300)]
    assert len(set(clusters(rows))) == len({one.prompt for one in rows})


def test_likeness_decides_not_a_single_shared_run_of_words():
    """Pairs that share 90 % of their 3-word runs are all joined, pairs that share 40 % never are."""

    def joined(shared, own):
        rows = []
        for pair in range(50):
            start = " ".join(f"p{pair}shared{number}" for number in range(shared))
            rows += [row(start + " " + " ".join(f"p{pair}{side}{number}" for number in range(own))) for side in "ab"]
        names = clusters(rows)
        return sum(first == second for first, second in zip(names[::2], names[1::2], strict=True))

    assert joined(shared=100, own=5) == 50
    assert joined(shared=40, own=30) == 0


def test_groups_and_identical_prompts_join_but_equal_answers_do_not():
    assert together(row("Prune a fig", groups=("thread",)), row("Water the moss", groups=("thread",)))
    assert together(row("Prune a fig", "No."), row("prune a fig!", "Yes."))
    assert together(row("Prune a fig", groups=("water the moss",)), row("Water the moss", source="other"))
    assert not together(row("Prune a fig", "I cannot help with that."), row("Water moss", "I cannot help with that."))


@settings(max_examples=25)
@given(st.permutations(range(8)))
def test_clusters_do_not_depend_on_order(order):
    texts = [LONG, LONG + " Well?", "Prune a fig", "prune a fig!", "Water it", "Feed it", "Shade it", "Sell it"]
    rows = [row(text) for text in texts]
    names = clusters(rows)
    assert len(set(names)) == 6
    shuffled = clusters([rows[index] for index in order])
    pairs = {(names[index], shuffled[place]) for place, index in enumerate(order)}
    assert len(pairs) == 6  # the same rows are together, whichever comes first


@given(st.text(), st.integers())
def test_a_split_is_a_fixed_function_of_cluster_and_seed(cluster, seed):
    shares = Shares(0.5, 0.25, 0.25)
    name = f"{len(cluster)}-{seed}"
    assert split_of(name, shares, seed) == split_of(name, shares, seed)
    assert 0.0 <= unit_hash(seed, name) < 1.0


def test_shares_are_met_and_extremes_are_exact():
    names = [str(number) for number in range(4000)]
    counts = dict.fromkeys(("train", "dev", "test"), 0)
    for name in names:
        counts[split_of(name, Shares(0.8, 0.1, 0.1), 1)] += 1
    assert abs(counts["dev"] - 400) < 80
    assert abs(counts["test"] - 400) < 80
    assert {split_of(name, Shares(1.0, 0.0, 0.0), 1) for name in names} == {"train"}
    assert {split_of(name, Shares(0.0, 0.0, 1.0), 1) for name in names} == {"test"}
