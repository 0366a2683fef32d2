"""Policies: what is read, what its digest depends on, what excluding leaves, and the policies that ship."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import assets, policy
from guard.errors import PolicyError
from guard.policy import Category, Policy

SMALL = """\
id: small
version: "1"
name: Small
categories:
  - code: S2
    name: Fraud
    definition: Cheating people out of money.
    threshold: 0.25
  - code: S10
    name: Hate
    definition: Contempt for a group.
    includes: [slurs]
    excludes: [reporting]
"""
SAME = """\
# the same words, laid out in another way
{"name": "Small", "version": '1', "description": "", "categories": [
  {"threshold": 2.5e-1, "definition": "Cheating people out of money.", "name": " Fraud", "code": "S2", "includes": []},
  {"excludes": ["reporting"], "includes": ["slurs "], "code": "S10", "name": Hate, "threshold": null,
   "definition": "Contempt
     for a group."}], "id": small}
"""
small = policy.from_text(SMALL, "small.yaml")


def mistakes(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        policy.from_text(text, "p.yaml")
    return str(caught.value).splitlines()


def test_a_policy_is_read() -> None:
    assert small == Policy(
        "small",
        "1",
        "Small",
        (
            Category("S2", "Fraud", "Cheating people out of money.", threshold=0.25),
            Category("S10", "Hate", "Contempt for a group.", ("slurs",), ("reporting",)),
        ),
    )
    assert small.codes == ("S2", "S10")
    assert small.category("S10").name == "Hate"


def test_the_digest_is_pinned() -> None:
    """It travels in bundles: a change of the canonical form would break every one of them."""
    assert small.digest == "401a0d17ba7e6c34bb8751496c0496090713b3f33ffb4352c2c5e5f3e1d55a74"


def test_the_digest_does_not_depend_on_layout() -> None:
    assert policy.from_text(SAME, "same.json").digest == small.digest


def test_folded_and_quoted_lines_are_the_same_words() -> None:
    folded = SMALL.replace("Contempt for a group.", ">\n      Contempt\n      for a group.\n")
    assert policy.from_text(folded, "p.yaml").digest == small.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("id: small", "id: other"),
        ('"1"', '"2"'),
        ("name: Small", "name: Large"),
        ("Cheating", "Tricking"),
        ("0.25", "0.26"),
        ("[slurs]", "[slurs, jokes]"),
        ("excludes", "includes"),
        ("code: S2", "code: S3"),
        ("name: Small", "name: Small\ndescription: more"),
        ("name: Small", "name: Small\nthreshold: 0.5"),
    ],
)
def test_the_digest_depends_on_every_word(old: str, new: str) -> None:
    text = SMALL.replace("    includes: [slurs]\n", "") if old == "excludes" else SMALL
    assert policy.from_text(text.replace(old, new), "p.yaml").digest != policy.from_text(text, "p.yaml").digest


def test_the_digest_depends_on_the_order_of_the_categories() -> None:
    turned = dataclasses.replace(small, categories=small.categories[::-1])
    assert turned.digest != small.digest


def test_all_mistakes_are_told_with_their_lines() -> None:
    text = """\
id: My Policy
version: 1
categories:
  - code: S 1
    name: ""
    definition: "one\\ntwo"
    exclude: [x]
  - code: S2
    definition: fine
    includes: one
    threshold: 1
  - S3
descripton: x
"""
    keys = "code, definition, excludes, includes, name, threshold"
    assert mistakes(text) == [
        "p.yaml:1: id: must be lower-case letters, digits and . _ -, like my-policy (given: 'My Policy')",
        "p.yaml:1: required key `name` is missing",
        "p.yaml:2: version: must be text; put the value in quotes (given: 1)",
        "p.yaml:4: categories.0.code: must be letters and digits, joined by / _ or -, like S1 or hate/threatening"
        " (given: 'S 1')",
        "p.yaml:5: categories.0.name: must not be empty (given: '')",
        "p.yaml:6: categories.0.definition: must be one line without tabs or control characters (given: 'one\\ntwo')",
        f"p.yaml:7: unknown key `exclude`; did you mean `excludes`? Allowed: {keys}",
        "p.yaml:8: required key `categories.1.name` is missing",
        "p.yaml:10: categories.1.includes: must be a list (given: 'one')",
        "p.yaml:11: categories.1.threshold: must be less than 1 (given: 1)",
        "p.yaml:12: categories.2: must be a mapping (key: value) (given: 'S3')",
        "p.yaml:13: unknown key `descripton`; did you mean `description`? Allowed: categories, description, id, name,"
        " threshold, version",
    ]


@pytest.mark.parametrize("code", ["S2", "s2"])
def test_a_repeated_code_is_told_on_the_line_of_the_second(code: str) -> None:
    assert mistakes(SMALL.replace("S10", code)) == [
        f"p.yaml:9: categories.1.code: {code} is taken by an earlier category (S2)"
    ]


def test_a_policy_has_a_category() -> None:
    text = 'id: x\nversion: "1"\nname: x\ncategories: []\n'
    assert mistakes(text) == ["p.yaml:4: categories: must hold at least one category; `guard policy new` shows one"]


def test_a_policy_has_only_so_many_categories() -> None:
    most = policy.MOST_CATEGORIES
    made = tuple(Category(f"T{number}", "x", "x") for number in range(most + 1))
    assert len(Policy("p", "1", "x", made[:most]).codes) == most
    with pytest.raises(ValueError, match=rf"must hold at most {most} categories \(got {most + 1}\)"):
        Policy("p", "1", "x", made)


def test_no_more_of_a_policy_file_is_parsed_than_it_may_hold() -> None:
    """Each category costs about a millisecond: what comes after the first one too many is not looked at."""
    most = policy.MOST_CATEGORIES
    text = 'id: x\nversion: "1"\nname: x\ncategories:\n' + "  - x\n" * (most + 1) + "  - !no YAML: *at all\n"
    assert mistakes(text) == [f"p.yaml:{4 + most + 1}: not valid YAML: a list must hold at most {most} items"]


@pytest.mark.parametrize("threshold", ["0", "1", "-0.1", "true", '"0.5"', ".nan", ".inf", "high"])
def test_a_threshold_is_a_number_between_0_and_1(threshold: str) -> None:
    (told,) = mistakes(SMALL.replace("0.25", threshold))
    assert told.startswith("p.yaml:8: categories.0.threshold: must be ")


@pytest.mark.parametrize("character", ["\\n", "\\t", "\\0", "\\e", "\\u2028", "\\x85", "\\r"])
def test_no_line_of_a_policy_can_pass_for_two(character: str) -> None:
    (told,) = mistakes(SMALL.replace("[slurs]", f'["a{character}b"]'))
    assert told.startswith("p.yaml:12: categories.1.includes.0: must be one line")


def test_categories_and_policies_made_in_python_are_checked_too() -> None:
    fine = Category("S1", " Name ", "Definition\n", (" a ",))
    assert (fine.name, fine.definition, fine.includes) == ("Name", "Definition", ("a",))
    for wrong in (
        lambda: Category("S 1", "x", "x"),
        lambda: Category("S1", "x", "two\nlines"),
        lambda: Category("S1", "x", "x", ("",)),
        lambda: Policy("P", "1", "x", (fine,)),
        lambda: Policy("p", "1", "x", ()),
        lambda: Policy("p", "1", "x", (fine, fine)),
        lambda: Policy("p", "1", "x", (fine,), description="\x1b[2J"),
    ):
        with pytest.raises(ValueError, match=r"must|taken"):
            wrong()


def test_without_leaves_the_rest_in_order() -> None:
    assert small.without(["S2"]).codes == ("S10",)
    assert small.without([]) is small
    assert small.without(["S2"]).digest != small.digest


def test_without_refuses_unknown_codes_and_excluding_all() -> None:
    with pytest.raises(PolicyError) as caught:
        small.without(["s10", "X"])
    assert str(caught.value) == "policy 'small' has no category s10, X; did you mean S10? It has: S2, S10"
    with pytest.raises(PolicyError, match="'small': excluding S2, S10 leaves no category"):
        small.without(["S2", "S10"])
    with pytest.raises(PolicyError, match=r"has no category S; did you mean S2\? It has: S2, S10"):
        small.category("S")


def test_codes_are_ordered_by_their_numbers() -> None:
    assert policy.ordered(small, {"S10", "S2"}) == ("S2", "S10")
    with pytest.raises(PolicyError, match="has no category S9"):
        policy.ordered(small, {"S9", "S2"})
    many = ["S10", "hate/threatening", "S2", "A", "hate", "S1", "10", "A2b"]
    assert sorted(many, key=policy.natural) == ["10", "A", "A2b", "S1", "S2", "S10", "hate", "hate/threatening"]


@given(st.lists(st.text() | st.sampled_from(["S1", "S01", "S001", "S1a", "S"])))
def test_any_codes_can_be_ordered(codes: list[str]) -> None:
    """One order whatever they came in: verdicts are built from sets."""
    turned = codes[::-1]
    assert sorted(turned, key=policy.natural) == sorted(codes, key=policy.natural)


lines = st.one_of(
    st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=60),
    st.sampled_from(
        ["no", "1e3", "08", "1_0", "# x", "a: b", "- a", "'", '"', "{", "*a", "!x", "é 漢 \U0001f600", "\ufeffx"]
    ),
).filter(str.strip)
thresholds = st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True)
categories = st.builds(
    Category,
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,4}([/_-][a-z]{1,3})?", fullmatch=True),
    lines,
    lines,
    st.lists(lines, max_size=2).map(tuple),
    st.lists(lines, max_size=2).map(tuple),
    thresholds,
)
policies = st.builds(
    Policy,
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,5}", fullmatch=True),
    lines,
    lines,
    st.lists(categories, min_size=1, max_size=3, unique_by=lambda category: category.code.lower()).map(tuple),
    st.lists(lines, max_size=3).map("\n".join),
    thresholds,
)


@given(policies)
def test_what_is_dumped_is_read_back_to_the_same_digest(one: Policy) -> None:
    for text in (policy.dump(one), policy.canonical(one)):
        again = policy.from_text(text, "p.yaml")
        assert again == one
        assert again.digest == one.digest


@given(st.data())
def test_any_change_to_a_policy_file_is_a_policy_or_a_policy_error(data: st.DataObject) -> None:
    text = SMALL
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        new = data.draw(
            st.text(max_size=3) | st.sampled_from(["\n", ": ", "- ", "[", "&a ", "*a", "!x ", "|", "---\n", '"'])
        )
        text = text[:start] + new + text[start + data.draw(st.integers(0, 4)) :]
    try:
        found: Policy | str = policy.from_text(text, "p.yaml")
    except PolicyError as error:
        found = str(error)
    assert isinstance(found, Policy) or found.startswith("p.yaml")


def test_shipped_policies_load() -> None:
    assert policy.shipped() == [
        *("aegis2", "beavertails", "granite-guardian", "llama-guard-1", "llama-guard-2", "minimal", "mlcommons"),
        *("openai", "qwen3guard", "shieldgemma", "wildguard"),
    ]
    for name in policy.shipped():
        shipped = policy.load(name)
        assert len(set(shipped.codes)) == len(shipped.codes) >= 1
        assert policy.from_text(policy.dump(shipped), name) == shipped


@pytest.mark.parametrize("name", [name for name in policy.shipped() if name != "minimal"])
def test_the_categories_that_ship_are_written_for_an_encoder(name: str) -> None:
    """Short concrete sentences, because a small encoder compares them to the user's text."""
    for category in policy.load(name).categories:
        assert 15 <= len(category.definition.split()) <= 30, category.code
        assert 2 <= len(category.includes) <= 6, category.code
        assert 2 <= len(category.excludes) <= 4, category.code


def test_the_codes_of_mlcommons_are_the_fourteen_hazards() -> None:
    shipped = policy.load("mlcommons")
    assert shipped.codes == tuple(f"S{number}" for number in range(1, 15))
    assert {c.code: c.threshold for c in shipped.categories if c.threshold} == {"S4": 0.3, "S9": 0.4, "S11": 0.4}


def test_the_codes_of_openai_are_those_of_its_api() -> None:
    shipped = policy.load("openai")
    assert shipped.id == "openai-moderation"
    assert set(shipped.codes) == {
        *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
        *("self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors"),
        *("violence", "violence/graphic"),
    }


def test_load_takes_a_name_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    assert policy.load(path) == policy.load(str(path)) == small
    (tmp_path / "small.json").write_text(json.dumps(policy.as_dict(small), indent=1), encoding="utf-8")
    assert policy.load(tmp_path / "small.json") == small
    with pytest.raises(PolicyError, match=r"no shipped policy 'mlcomons'; did you mean 'mlcommons'\? Shipped: aegis2,"):
        policy.load("mlcomons")
    with pytest.raises(PolicyError, match=r"^mlcommons: cannot be read: No such file"):
        policy.load(Path("mlcommons"))
    with pytest.raises(PolicyError, match=r"missing\.yaml: cannot be read: No such file"):
        policy.load(tmp_path / "missing.yaml")


def test_the_json_schema_in_the_tree_is_not_stale() -> None:
    committed = json.loads((assets.asset("taxonomy/policies").parent / "schema.json").read_text(encoding="utf-8"))
    assert committed == policy.json_schema(), "run: guard policy schema > taxonomy/schema.json"
