"""Every description, crosswalk and data configuration that ships."""

import functools
import re

import pytest

from guard import assets, policy
from guard.data.build import config
from guard.data.sources import description
from guard.errors import ConfigError, DataError
from guard.policy import crosswalk

NAMES = description.names()
described = functools.cache(description.load)
CROSSWALKS = assets.names("taxonomy/crosswalks", ".yaml")


def test_there_are_sources_and_crosswalks():
    assert len(NAMES) >= 40
    assert CROSSWALKS


@pytest.mark.parametrize("name", NAMES)
def test_a_description_is_complete(name):
    source = described(name)
    assert source.upstream.startswith("https://")
    assert len(source.commit) == 40 or source.within == "taxonomy" or source.hub  # ours is versioned with the package
    assert source.attribution
    assert (source.expected is None) == (source.hub is not None or source.installed is not None)
    if source.expected is not None:
        for counts in (source.expected.before, source.expected.after):
            assert counts.total == counts.safe + counts.unsafe + counts.unlabelled
        assert source.expected.after.total <= source.expected.before.total
    description.check_codes(source, description.load_crosswalk(source), policy.load("mlcommons"))


@pytest.mark.parametrize("name", CROSSWALKS)
def test_a_crosswalk_is_used_and_maps_to_codes_of_its_policy(name):
    table = crosswalk.load(name)
    assert table.name == name
    crosswalk.check_codes(table, {one.id: one for one in map(policy.load, policy.shipped())}[table.policy])
    assert all(table.mapped.values())
    assert all(reason.strip() for reason in table.unmapped.values())
    used = {source.categories.crosswalk for source in map(described, NAMES) if source.categories}
    assert (
        name in used or table.origin is not None or name in ("openai_eval", "or_bench")
    )  # for users' data and other guards


@pytest.mark.parametrize("name", [one for one in assets.names("training/configs", ".yaml") if one.startswith("data-")])
def test_a_data_configuration_names_sources_that_may_be_trained_on(name):
    found = config.load(assets.asset(f"training/configs/{name}.yaml"))
    assert not {description.load(use.source).role for use in found.sources} & {"development", "unlabelled"}
    assert {description.load(one).role for one in found.development} <= {"development", "unlabelled", "train"}


def test_what_measures_the_guards_is_kept_out_of_their_training():
    found = config.load(assets.asset("training/configs/data-default.yaml"))
    assert {"guardset_spotify", "coconot_contrast", "purplellama_frr"} <= set(found.development)
    assert set(found.rules.development) == {"CSU", "IB"}


def test_every_source_is_in_the_configuration_of_all():
    found = config.load(assets.asset("training/configs/data-all.yaml"))
    assert {use.source for use in found.sources} | set(found.development) == {
        name for name in NAMES if not described(name).hub
    }


def test_a_crosswalk_translates_in_its_own_order():
    tags = crosswalk.load("multijail")
    found = crosswalk.translate(tags, ["Theft", "bullying & harassment", " SELF-HARM"], "multijail", "tags")
    assert found == ("S2", "S11")
    assert crosswalk.translate(tags, ["Bullying & harassment"], "multijail", "tags") is None
    keywords = crosswalk.load("jade")
    assert crosswalk.translate(keywords, ["侵害他人隐私权|侵害他人名誉权"], "jade", "sub-type") == ("S7",)
    with pytest.raises(DataError, match="source multijail: field `tags` holds a native label"):
        crosswalk.translate(tags, ["Knitting"], "multijail", "tags")


def test_a_label_is_mapped_or_unmapped_but_not_both(world):
    path = world.taxonomy / "crosswalks" / "gardens.yaml"
    world.edit(path, "damage: plants", "Theft: plants")
    with pytest.raises(ConfigError, match="native label 'theft' is listed twice"):
        crosswalk.load("gardens", world.taxonomy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: text", "kind: response", "`response` only if its kind is response"),
        ("reader: dashed_lines", "reader: dotted_lines", "unknown reader 'dotted_lines'"),
        ("name: notes", "name: other", "they must agree"),
        ("licence:", "license:", "unknown key `license`; did you mean `licence`"),
        ("label: {fields: [part], ", "label: {", "name the `fields` that hold the native label"),
        (
            "always: [S10]",
            "crosswalk: gardens",
            "give one of `fields` (with or without `crosswalk`), `flags` and `always`",
        ),
    ],
)
def test_mistakes_in_a_description_are_told(world, old, new, message):
    world.edit(world.source("notes"), old, new)
    with pytest.raises(ConfigError, match=re.escape(message)):
        description.load("notes", world.taxonomy)
