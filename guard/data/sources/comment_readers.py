"""Named readers of comments that several people judged, or that have classes of their own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from guard.data.sources.formats import Record
from guard.errors import DataError

_CHINESE = re.compile("[\u4e00-\u9fff]")


def rater_share(records: Iterable[Record]) -> Iterator[Record]:
    """Comments joined with the rows of their raters: `share`, the mean of `not toxic`. Unrated comments are skipped."""
    votes: dict[str, list[bool]] = defaultdict(list)
    comments = []
    for record in records:
        if "comment_text" in record.fields:
            comments.append(record)
        else:
            votes[record.text("comment_id")].append(record.text("not toxic") in ("1", "True"))
    for record in comments:
        if given := votes.get(record.text("comment_id")):
            yield record.adding(share=sum(given) / len(given))


def annotator_votes(records: Iterable[Record]) -> Iterator[Record]:
    """Rows with one column per annotator and rating: `share` of ratings below 0, and `hate` (yes or no)."""
    hateful = ("_ableist", "_homophobic", "_racist", "_sexist", "_transphobic")
    for record in records:
        ticked = [name.partition("#")[0] for name, value in record.fields.items() if value == "1"]
        ratings = [int(name.rpartition(".")[2]) for name in ticked if "_is_abuse." in name]
        if ratings:
            hate = "yes" if any(name.endswith(hateful) for name in ticked) else "no"
            yield record.adding(share=sum(rating < 0 for rating in ratings) / len(ratings), hate=hate)


def tweet_and_classes(records: Iterable[Record]) -> Iterator[Record]:
    """Lines of a tweet, its coarse and its fine class, parted by tabs: `tweet` (`|LBR|` is a line break) and `fine`."""
    for record in records:
        tweet, _, fine = _cells(record, 3)
        yield record.adding(tweet=tweet.replace("|LBR|", "\n"), fine=fine)


def comment_and_bias(records: Iterable[Record]) -> Iterator[Record]:
    """Lines below a header, of a comment, two columns on its bias, and its hate: `comment` and `hate and bias`."""
    for record in records:
        comment, _, bias, hate = _cells(record, 4)
        if record.number > 1:
            yield record.adding(comment=comment, **{"hate and bias": f"{hate} {bias}"})


def _cells(record: Record, count: int) -> list[str]:
    """The cells of a line, parted by tabs; quotes have no meaning."""
    cells = record.text("text").split("\t")
    if len(cells) != count:
        raise DataError(f"{record.place}: has {len(cells)} cells, not {count}")
    return cells


def rater_counts(records: Iterable[Record]) -> Iterator[Record]:
    """Rows with the number of raters (of three) who ticked each column: adds `agreed` (group, nothing or other).

    Rows with a Chinese character are skipped: in a text in Portuguese it is broken encoding.
    """
    groups = ("homophobia", "racism", "misogyny", "xenophobia")
    for record in records:
        if _CHINESE.search(record.text("text")) is None:
            votes = {name: float(record.text(name)) for name in (*groups, "obscene", "insult")}
            group = any(votes[name] == 3 for name in groups)
            yield record.adding(agreed="group" if group else "other" if any(votes.values()) else "nothing")


COMMENT_READERS: dict[str, Callable[[Iterable[Record]], Iterator[Record]]] = {
    reader.__name__: reader
    for reader in (rater_share, annotator_votes, tweet_and_classes, comment_and_bias, rater_counts)
}
