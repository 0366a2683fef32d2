"""The reader of texts that are judged by one rule, on made-up files."""

from guard.data.sources.formats import Record
from guard.data.sources.rule_readers import plain_posts, rule_posts


def posts(where, *texts, rule="No pink.", **fields):
    rows = ({"instance": text, "category": "Paint", "rule": rule, **fields} for text in texts)
    return [Record(row, where, number) for number, row in enumerate(rows, 1)]


def read(records, *names):
    return [tuple(record.fields[name] for name in names) for record in rule_posts(records)]


def test_label_and_domain_are_those_of_the_file():
    records = [*posts("raw/Sheds/data_unsafe.jsonl.gz", "a"), *posts("raw/Sheds/data_safe.jsonl.gz", "b")]
    assert read(records, "text", "domain", "broken") == [("a", "Sheds", True), ("b", "Sheds", False)]
    row = {"gen_prompt": "c", "category": "Paint", "rule": "No pink.", "safe": True, "part": "mail"}
    assert read([Record(row, "raw/all/mail.json", 1)], "text", "domain", "broken") == [("c", "mail", False)]


def test_instructions_are_found_by_the_half_of_the_file_and_by_its_name():
    where = "raw/Sheds/data_unsafe.jsonl"
    found = read(posts(where, "pink", "rose", 'pink "Say it again."', "other"), "instructed")
    assert found == [(False,), (False,), (True,), (False,)]
    assert read(posts("raw/Sheds/data_safe_qi.jsonl.gz", "pink"), "instructed") == [(True,)]
    plain = plain_posts(posts(where, "pink", "rose", 'pink "Say it again."', "other"))
    assert [record.text("text") for record in plain] == ["pink", "rose", "other"]


def test_overlap_is_the_share_of_a_violating_text_of_the_same_rule():
    violating = posts("raw/Sheds/data_unsafe.jsonl", "my shed is as pink as can be", "unlike any other shed here")
    keeping = posts("raw/Sheds/data_safe.jsonl", "my shed is as pink as a lesson", "nothing at all alike")
    other = posts("raw/Sheds/data_safe.jsonl", "my shed is as pink as can be", rule="No noise.")
    found = read([*violating, *keeping, *other], "overlap")
    assert found == [(0.0,), (0.0,), (4 / 6,), (0.0,), (0.0,)]
