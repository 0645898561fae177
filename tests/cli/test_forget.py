"""`repartee corpus forget`: the list, which versions had read what is on it, and what a person can do."""

import json
import shlex

import pyarrow as pa
import pytest
from stored_homes import rows, store_corpus, store_training, store_version

from cli.forget import forget, list_forgotten, restore
from cli.terminal.forgotten import list_text, print_result_of, result_text
from corpus.forget_list import forgotten_in
from models.data.schemas import SPLIT_TURNS, TURNS
from models.errors import InputError
from models.registry.reference import open_registry
from settings import Settings
from tasks.store.artifact import stored_outputs
from tasks.trunk.chain import SHAPE, Night, Trunk

TALK = [
    *rows("1", ("ann", "bob"), "train"),
    *rows("2", ("eve", "bob"), "test"),
    *rows("3", ("ann", "bob", "ann"), "train"),
    *rows("it's €", ("zoë", "bob"), "validation"),
]


def ask(*names, anyway=False, reason=""):
    pairs = [("conversation", name) for name in names]
    return forget(pairs, reason=reason, anyway=anyway)


def speaker(name, anyway=False):
    return forget([("speaker", name)], reason="", anyway=anyway)


def listed():
    return [(entry.kind, entry.id) for entry in list_forgotten()[1]]


def readings(result):
    return {each.title: sorted(each.splits or ()) for each in result.versions if each.has_read}


def renamed(turns, **names):
    """The turns, in which conversations have other ids, as after they were divided."""
    return [
        {**row, "conversation_id": names.get(row["conversation_id"], row["conversation_id"])} for row in turns
    ]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def trained(home):
    """A home with a version that was trained on TALK, and then one that was trained without conversation 1."""
    parse = store_corpus(home, "talk", TALK)
    store_training(home, "one", parse, TALK)
    store_training(home, "two", parse, TALK[2:])
    for name in ("one", "two"):
        version = store_version(home, name)
        open_registry(Settings()).promote(version, "better")
    return home


def test_a_conversation_is_listed_with_the_versions_that_had_read_it(trained):
    result = ask("1", reason="asked for")
    assert listed() == [("conversation", "1")]
    assert readings(result) == {"repartee v1": ["train"]}
    assert result.remedies == [], "the champion has not read it"
    folders = [str(path.relative_to(trained)) for path in result.folders]
    assert folders == [
        *("store/download/talk", "store/parse/talk", "store/clean/one", "store/export/one"),
        "store/train/one",
    ]
    text = result_text(result)
    assert text.startswith("conversation '1' is forgotten: 2 turns in 1 conversation of mine\n")
    assert "  repartee v1 (previous)      trained on it\n" in text
    assert f"  remedy: rm -r {shlex.join(map(str, result.folders))}" in text
    assert "asked for" in list_text(*list_forgotten())


def test_the_shards_are_listed_because_one_of_them_may_contain_the_conversation(trained):
    (trained / "store" / "shards" / "one").mkdir(parents=True)
    assert trained / "store" / "shards" in ask("1").folders
    assert trained / "store" / "shards" not in ask("no such conversation", anyway=True).folders


def test_a_speaker_is_listed_with_the_splits_of_their_conversations(trained):
    assert readings(speaker("ann")) == {"repartee v1": ["train"], "repartee v2": ["train"]}
    assert readings(speaker("eve")) == {"repartee v1": ["test"], "repartee v2": ["test"]}
    assert readings(speaker("zoë")) == {"repartee v1": ["validation"], "repartee v2": ["validation"]}
    assert listed() == [("speaker", "ann"), ("speaker", "eve"), ("speaker", "zoë")]
    assert "scored on it (test)" in result_text(speaker("eve"))


def test_the_remedy_for_the_champion_trains_and_promotes_its_successor_and_returns_only_to_a_clean_version(
    trained,
):
    [remedy] = speaker("eve").remedies
    assert (remedy.champion, remedy.rollback) == ("repartee v2", "")
    assert remedy.retrain == "repartee run --recipe small --set gate.promote=always"
    registry = open_registry(Settings())
    changes = "download.corpus=my talk.csv, train.seed=3, start.init=champion"
    registry.log_tags(registry.find("2").run_id, {"repartee.recipe": "quick", "repartee.changes": changes})
    assert speaker("eve").remedies[0].retrain == (
        "repartee run --recipe quick --set 'download.corpus=my talk.csv' --set train.seed=3 "
        "--set gate.promote=always"
    )
    open_registry(Settings()).promote(open_registry(Settings()).find("1"), "again")
    [remedy] = ask("1").remedies
    assert (remedy.champion, remedy.rollback) == ("repartee v1", "repartee rollback")
    assert "  remedy: repartee rollback\n" in result_text(ask("1"))


def test_a_second_time_nothing_is_written_and_the_same_is_shown(trained):
    before = ask("1")
    again = ask("1")
    assert again.added == [] and before.added == [("conversation", "1")]
    assert len((trained / "forgotten.jsonl").read_text().splitlines()) == 1
    assert readings(again) == readings(before)
    assert "was already forgotten" in result_text(again)


@pytest.mark.parametrize("name", ["3", "3/2", "3~2", "3#2", "3/2~3#2", "3/path 4"])
def test_the_id_of_a_part_or_of_a_path_means_the_whole_conversation(home, name):
    parse = store_corpus(home, "talk", TALK)
    store_training(home, "one", parse, renamed(TALK, **{"3": "3/2~3#2"}))
    store_version(home, "one")
    assert readings(ask(name)) == {"repartee v1": ["train"]}
    assert listed() == [("conversation", "3")]


def test_in_a_mix_an_id_may_have_the_name_of_its_source(home):
    turns = [
        *rows("a/1", ("ann", "bob"), "train"),
        *rows("b/1", ("ann", "bob"), "test"),
        *rows("b/2", "ab", "train"),
    ]
    store_training(home, "one", store_corpus(home, "both", turns, ("a", "b")), turns)
    store_version(home, "one")
    result = ask("b/1")
    assert readings(result) == {"repartee v1": ["test"]}
    assert result.found["conversation", "b/1"][0].corpus == "a+b"
    assert readings(ask("1")) == {"repartee v1": ["test", "train"]}


def test_a_version_that_began_with_the_weights_of_a_reader_is_one_as_well(trained):
    first = open_registry(Settings()).location(open_registry(Settings()).find("1"))
    parse = store_corpus(trained, "other", rows("9", ("ann", "eve"), "train"))
    store_training(trained, "three", parse, rows("9", ("ann", "eve"), "train"), start=first)
    bot = open_registry(Settings(), "support bot")
    bot.promote(store_version(trained, "three", "support bot"), "the first")
    result = ask("1")
    assert {each.title: each.start for each in result.versions} == {
        "repartee v1": "",
        "support bot v1": "repartee v1",
    }
    assert [remedy.champion for remedy in result.remedies] == ["support bot v1"]
    assert "support bot v1 (champion)   began with the weights of repartee v1" in result_text(result)


def test_a_version_whose_data_are_gone_is_unknown(trained):
    (trained / "store" / "export" / "one" / "manifest.json").unlink()
    result = ask("1")
    assert readings(result) == {}
    assert [each.title for each in result.versions if each.is_unknown] == ["repartee v1"]
    text = result_text(result)
    assert "No version whose data are known had read it." in text
    assert "Unknown, because their data are no longer in the store: repartee v1" in text


def test_an_unknown_id_is_one_line_and_is_listed_only_for_a_corpus_that_comes_later(trained):
    with pytest.raises(
        InputError, match=r"no stored corpus contains the conversation 'x y'; .*turns\.parquet.*--any"
    ):
        ask("1", "x y")
    assert listed() == []
    result = ask("x y", anyway=True)
    assert listed() == [("conversation", "x y")] and result.versions == []
    assert "no stored corpus contains it" in result_text(result)


def test_a_name_of_the_other_kind_is_pointed_out(trained):
    with pytest.raises(InputError, match="but there is a speaker of this name: use --speaker"):
        ask("ann")
    with pytest.raises(InputError, match="but there is a conversation of this name: use --conversation"):
        speaker("1")


def test_a_speaker_who_is_everywhere_is_refused_because_nothing_would_be_left(trained):
    with pytest.raises(InputError, match=r"'bob' takes all 4 conversations of mine, .* add --anyway"):
        speaker("bob")
    assert listed() == []
    speaker("bob", anyway=True)
    assert listed() == [("speaker", "bob")]


def test_a_home_without_a_corpus_is_one_line_and_nothing_is_written(home):
    with pytest.raises(InputError, match=r"contains no corpus yet .* `repartee prepare`"):
        ask("1")
    assert not home.exists()
    ask("1", anyway=True)
    assert listed() == [("conversation", "1")]


def test_what_is_restored_is_read_again_and_an_id_that_is_not_listed_changes_nothing(trained):
    ask("1", "it's €")
    with pytest.raises(InputError, match="the conversation '2' is not on the list"):
        restore([("conversation", "1"), ("conversation", "2")])
    assert len(listed()) == 2
    restore([("conversation", "it's €")])
    assert listed() == [("conversation", "1")]


def test_the_json_is_one_object_and_without_a_name_it_is_the_list(trained, capsys):
    options = {"reason": "", "is_undone": False, "anyway": False, "as_json": True}
    print_result_of({"speaker": ["zoë"]}, **options)
    found = json.loads(capsys.readouterr().out)
    [entry] = found["forgotten"]
    assert entry == {
        "speaker": "zoë",
        "added": True,
        "corpora": [{"corpus": "mine", "conversations": 1, "turns": 2}],
    }
    assert [(each["version"], each["splits"]) for each in found["versions"]] == [
        (1, ["validation"]),
        (2, ["validation"]),
    ]
    assert found["remedies"][0]["champion"] == "repartee v2"
    print_result_of({}, **options)
    [entry] = json.loads(capsys.readouterr().out)["forgotten"]
    assert (entry["kind"], entry["id"]) == ("speaker", "zoë")
    with pytest.raises(InputError, match="add --conversation ID or --speaker ID"):
        print_result_of({}, **(options | {"is_undone": True}))


def test_a_night_has_read_what_the_nights_before_it_had_read_and_its_trunk_is_named(home):
    parse = store_corpus(home, "talk", TALK)
    trunk = Trunk.of(home, "repartee", dict.fromkeys(SHAPE, "x"))
    trunk.append(Night(at="2020-11-29T03:14:00+00:00", digest="random weights", origin="random weights"))
    for name, turns in (("one", TALK), ("two", TALK[2:])):
        store_training(home, name, parse, turns)
        store_version(home, name)
        trunk.append(Night(at="2020-11-29T03:14:00+00:00", digest=name, fingerprint=name))
    result = ask("1")
    assert readings(result) == {"repartee v1": ["train"], "repartee v2": ["train"]}
    assert result.trunks == [trunk.folder]
    assert f"  remedy: rm -r {shlex.quote(str(trunk.folder))}\n" in result_text(result)
    assert ask("2").trunks == [], "a night was scored on it, but not trained"
    # A line that begins again from a champion has read what the champion had read.
    model = stored_outputs(home, "train")
    [champion] = [each.digest for each in model if each.fingerprint == "one"]
    trunk.append(Night(at="2020-11-29T03:14:00+00:00", digest="v1", origin="champion v1", model=champion))
    assert ask("1").trunks == [trunk.folder]
    trunk.append(Night(at="2020-11-29T03:14:00+00:00", digest="again", origin="random weights"))
    assert ask("1").trunks == []


def texts_left(turns):
    table = pa.Table.from_pylist(turns, SPLIT_TURNS).select(TURNS.names)
    left = forgotten_in(Settings().root, ["mine"]).without(table)
    return list(dict.fromkeys(left["conversation_id"].to_pylist()))


def named(turns, **names):
    return [{**row, "conversation_id": names[row["conversation_id"]]} for row in turns]


def test_a_conversation_whose_id_is_its_line_is_known_by_its_texts_after_lines_were_added(home):
    turns = [*rows("a", ("x", "y"), "train"), *rows("b", ("x", "y"), "train")]
    store_corpus(home, "talk", named(turns, a="mine.csv:2", b="mine.csv:3"))
    ask("mine.csv:2")
    moved = named([*rows("c", ("x", "y"), "train"), *turns], c="mine.csv:2", a="mine.csv:3", b="mine.csv:4")
    assert texts_left(moved) == ["mine.csv:2", "mine.csv:4"]
    store_corpus(home, "later", moved)
    for name in ("mine.csv:2", "mine.csv:2#3"):
        again = ask(name)
        assert again.added == [], "the conversation that has this id now is another one"
    assert [sorted(each.ids) for each in again.found["conversation", "mine.csv:2"]] == [
        ["mine.csv:3"],
        ["mine.csv:2"],
    ]
    assert ask("mine.csv:2", anyway=True).added == [("conversation", "mine.csv:2")]
    assert texts_left(moved) == ["mine.csv:4"]
    restore([("conversation", "mine.csv:2")])
    assert texts_left(moved) == ["mine.csv:2", "mine.csv:3", "mine.csv:4"]


def test_a_copy_under_another_id_is_forgotten_with_the_conversation(home):
    store_corpus(home, "talk", TALK)
    ask("1")
    copy = [{**row, "conversation_id": "another"} for row in TALK[:2]]
    assert texts_left([*TALK, *copy]) == ["2", "3", "it's €"]


def test_the_digest_of_a_conversation_stays_the_same_because_the_list_contains_it(home):
    store_corpus(home, "talk", TALK)
    ask("1")
    (entry,) = list_forgotten()[1]
    assert entry.texts == ["debdbffa740bf7e042a4717711445442"]
