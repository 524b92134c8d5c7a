"""Which records share a column, a row and a cell of a table, and what these are called."""

from __future__ import annotations

from typing import Any

import pytest
from made_records import CONFIG, config, kept, make

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results.render import shown
from bab.results.settings import brief
from bab.results.summary import Summary, arrange, summarise
from bab.results.table import table


def labels(*records: Record) -> list[str]:
    return [column.label for column in summarise(records).columns]


def at(root: str | None, **more: Any) -> dict[str, Any]:
    return CONFIG | {"corpus": {"name": "rttm", "root": root, "options": {}}} | more


def test_columns_stand_by_task_and_corpus_then_as_they_come() -> None:
    runs = [
        make("a", task="vtc", corpus="rttm", protocol="kfold-6"),
        make("b", task="vtc", corpus="rttm", protocol="given"),
        make("c", task="vtc", corpus="kaldi"),
        make("d", task="age", corpus="rttm"),
    ]
    names = ["age@rttm", "vtc@kaldi", "vtc@rttm kfold-6", "vtc@rttm given"]
    assert labels(*runs) == names
    table = arrange(runs)
    assert [[r.id for r in members] for members in table.members] == [["d"], ["c"], ["a"], ["b"]]


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ({}, {"split": "dev"}, ["vtc@rttm given", "vtc@rttm given dev"]),
        ({}, {"corpus_digest": "e2" * 8}, ["vtc@rttm d1d1d1d1", "vtc@rttm e2e2e2e2"]),
        ({"config": at("/a/homes")}, {"config": at("/b/homes"), "corpus_digest": "e2" * 8},
         ["vtc@rttm:homes d1d1d1d1", "vtc@rttm:homes e2e2e2e2"]),
        ({"config": at("/a/x")}, {"config": at("/b/y"), "corpus_digest": "e2" * 8},
         ["vtc@rttm:x", "vtc@rttm:y"]),
        ({"labels": {"v": list("abcdefgh")}}, {"labels": {"v": list("abcde"), "w": list("fghi")}},
         ["vtc@rttm a+b+c+d+e+f+g+h", "vtc@rttm 9 classes"]),
        ({"leakage": True}, {"protocol": "kfold-6"}, ["vtc@rttm †", "vtc@rttm"]),
        # Two things differ: the first that is told has said enough.
        ({}, {"protocol": "kfold-6", "corpus_digest": "e2" * 8},
         ["vtc@rttm given", "vtc@rttm kfold-6"]),
        ({}, {"primary": "uar"}, ["vtc@rttm", "vtc@rttm"]),  # the heading has the metric
    ],
)  # fmt: skip
def test_what_tells_columns_apart_stands_behind_their_names(
    one: dict[str, Any], two: dict[str, Any], expected: list[str]
) -> None:
    assert labels(make("a", **one), make("b", **two)) == expected


def test_kinds_of_labels_in_another_order_are_the_same_classes() -> None:
    kinds = {"v": ["a", "b"], "w": ["c"]}
    turned = dict(reversed(kinds.items()))
    assert labels(make("a", labels=kinds), make("b", labels=turned)) == ["vtc@rttm"]
    other = kinds | {"v": ["b", "a"]}  # of a kind, their order is the head's
    assert len(labels(make("a", labels=kinds), make("b", labels=other))) == 2


def test_corpora_are_called_by_their_folders() -> None:
    both = {"corpus": "kaldi→rttm", "corpus_version": "1→1"}
    test = {"name": "rttm", "root": "/data/b", "options": {}}
    assert labels(make("a", **both, config=at("/data/a", test_corpus=test))) == [
        "vtc@kaldi:a→rttm:b"
    ]
    assert labels(make("a", **both, config=at(None, test_corpus=None))) == ["vtc@kaldi→rttm"]
    assert labels(
        make("a", config=CONFIG | {"corpus": "rttm:/x/y", "test_corpus": "kaldi:/z"})
    ) == ["vtc@rttm:y"]
    assert labels(make("a", config={})) == ["vtc@rttm"]


def test_a_failed_run_stands_with_its_like_and_names_nothing() -> None:
    lost = {"status": "failed", "labels": {}, "metrics": {}, "units": {}, "primary": ""}
    runs = [
        make("a", **lost, higher_is_better=False, task_version=""),
        make("b", corpus_digest="e2" * 8, seed=1, units={"f1": "%"}),
        make("c", seed=2, units={"f1": "%"}),
        make("d", **lost, corpus_digest="", encoder="ast"),
    ]
    summary = summarise(runs)
    assert [c.label for c in summary.columns] == ["vtc@rttm d1d1d1d1", "vtc@rttm e2e2e2e2"]
    own, other = summary.columns
    assert (own.metric, own.unit, own.higher_is_better) == ("f1", "%", True)
    assert (own.task_version, other.metric) == ("1", "f1")
    ids = [[r.id for r in members] for members in arrange(runs).members]
    assert ids == [["a", "c"], ["b", "d"]]  # of the same data, else the first of the task
    alone = summarise([runs[0]]).columns[0]
    assert (alone.metric, alone.unit, alone.higher_is_better) == ("", "", False)
    apart = make("e", **lost, protocol="kfold-6")
    assert len(summarise([*runs, apart]).columns) == 3


def test_versions_are_compared_where_they_are_known() -> None:
    summarise([make("a"), make("b", status="failed", task_version="", corpus_version="")])
    with pytest.raises(BabError) as caught:
        summarise([make("a"), make("b", task_version="2", seed=3, encoder="ast"), make("c")])
    assert str(caught.value) == (
        "these records are of 2 versions of task vtc, whose numbers can't stand in one table: "
        "repeat the older runs, or move them elsewhere\n"
        "  version 1: fbank, seed 0, run a\n"
        "  version 1: fbank, seed 0, run c\n"
        "  version 2: ast, seed 3, run b"
    )


def rows_of(*records: Record) -> list[tuple[str, str, str, str]]:
    return [(r.encoder, r.mode, r.head, r.settings) for r in summarise(records).rows]


def test_a_row_is_called_by_all_its_heads_unless_one_task_has_several() -> None:
    age = {"task": "age", "head": "pooled"}
    assert rows_of(make("a"), make("b", **age), make("c", mode="finetune")) == [
        ("fbank", "finetune", "frames", ""), ("fbank", "probe", "frames, pooled", ""),
    ]  # fmt: skip
    assert rows_of(make("a"), make("b", **age), make("c", head="rnn")) == [
        ("fbank", "probe", "frames", ""), ("fbank", "probe", "pooled", ""),
        ("fbank", "probe", "rnn", ""),
    ]  # fmt: skip
    # One that failed early knows no head, and stands with the others.
    early = {"status": "failed", "head": "", "metrics": {}}
    assert rows_of(make("a"), make("b", **early, seed=1)) == [("fbank", "probe", "frames", "")]


def only(summary: Summary) -> Any:
    (row,) = summary.rows
    (cell,) = row.cells
    return cell


def test_a_cell_is_the_mean_of_its_seeds_and_says_what_is_missing() -> None:
    failed = {"status": "failed", "metrics": {}}
    cell = only(
        summarise([
            make("b", 0.7, seed=3, jackknife={}), make("a", 0.5, seed=1, jackknife={}),
            make("c", **failed, seed=2, reason="no disk"), make("d", **failed, seed=4),
            make("e", **failed, seed=5, reason="no disk"),
        ])
    )  # fmt: skip
    assert (cell.value, cell.seeds, cell.status) == (pytest.approx(0.6), (1, 3), "failed")
    assert cell.reason == "seed 2, 4, 5: no disk; no reason given"
    assert cell.no_interval == "nothing kept to tell it from"
    none = only(summarise([make("c", **failed, reason="no disk")]))
    assert (none.value, none.seeds, none.reason, none.mark) == (None, (), "no disk", "")
    one = only(summarise([make("a", leakage=True), make("b", seed=1, data={"heard": {"test": 1}})]))
    assert one.leakage and one.heard and not one.old
    assert only(summarise([make("a", format=1)])).old


def test_costs_are_means_of_the_runs_that_tell_them() -> None:
    runs = [
        make("a", cost={"encoder_parameters": 10.0, "encoder_audio_per_second": 4.0}),
        make("b", seed=1, cost={"encoder_parameters": 20.0}),
        make("c", seed=2, cost={}),
        make("d", seed=3, cost={"encoder_parameters": 9e9}, status="failed", metrics={}),
    ]
    (row,) = summarise(runs).rows
    assert (row.parameters, row.speed) == (15.0, 4.0)
    (bare,) = summarise([make(cost={})]).rows
    assert (bare.parameters, bare.speed) == (None, None)


def test_how_many_seeds_a_row_has() -> None:
    runs = []
    for task, seeds in (("age", 8), ("vtc", 1), ("sv", 2)):
        runs += [make(f"{task}{i}", task=task, seed=i, jackknife=kept([0.5, 0.6])) for i in
                 range(seeds)]  # fmt: skip
    runs.append(make("x", task="vtc", encoder="ast", status="failed", metrics={}))
    lines = [line for line in table(runs).splitlines() if line.startswith(("| fbank", "| ast"))]
    assert [line.split(" | ")[-3].strip() for line in lines] == ["", "1-8"]
    same = table([r for r in runs if r.task == "age"])
    assert same.splitlines()[2].split(" | ")[-3].strip() == "8"


# --- settings -----------------------------------------------------------------------------------


def settings(*configs: dict[str, Any], **more: Any) -> list[str]:
    runs = [make(str(i), config=c, seed=i, **more) for i, c in enumerate(configs)]
    return [arrange(runs).keys[i][3] for i in range(len(arrange(runs).keys))]


def test_settings_are_what_differs() -> None:
    assert settings(config(steps=1), config(steps=2)) == ["train.steps=1", "train.steps=2"]
    assert settings(CONFIG, CONFIG | {"layers": "mix"}) == ["layers=mix", "layers=none"]
    assert settings(CONFIG | {"layers": "mix"}, CONFIG) == ["layers=mix", "layers=none"]
    assert settings(CONFIG | {"x": 1}, CONFIG | {"x": True}) == ["x=1", "x=true"]
    assert settings(CONFIG | {"x": [1]}, CONFIG | {"x": [1]}) == [""]
    assert settings(CONFIG | {"x": {"y": {"z": "a"}}}, CONFIG | {"x": {"y": {}}}) == [
        "x.y.z=a", "x.y.z=none"
    ]  # fmt: skip
    assert settings({"task": {"a": 1, "b": 1}}, {"task": {"a": 2, "b": 2}}) == [
        "task.a=1, task.b=1", "task.a=2, task.b=2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 7}, {"device": "cpu"}, {"runs": "r"}, {"observers": ["jsonl"]}, {"quiet": True},
        {"offline": True}, {"trust_code": True}, {"cache": {"dir": "x"}}, {"bootstrap": 9},
        {"train": CONFIG["train"] | {"save_every": 3, "save_minutes": 4}},
        {"encoder": {"name": "fbank", "weights": "x", "options": {}}},
        {"corpus": {"name": "rttm", "root": "/elsewhere", "options": {}}},
        {"test_corpus": {"root": "/x"}},
    ],
)  # fmt: skip
def test_what_never_tells_rows_apart(change: dict[str, Any]) -> None:
    plain = CONFIG | {"encoder": {"name": "fbank", "options": {}}}
    rows = arrange([make("a", config=plain), make("b", config=plain | change, seed=1)]).keys
    told = {key[3] for key in rows} - {""}
    assert told <= {"encoder.name=fbank, test_corpus=none"} and len(rows) == 1


def test_weights_that_changed_under_one_name_are_rows_of_their_own() -> None:
    def told(*prints: str, **more: Any) -> list[str]:
        runs = [make(str(i), seed=i, encoder_fingerprint=p, **more) for i, p in enumerate(prints)]
        return [key[3] for key in arrange(runs).keys]

    assert told("a1" * 8, "b2" * 8, "") == [
        "weights=a1a1a1a1", "weights=b2b2b2b2", "weights=unknown"
    ]  # fmt: skip
    assert told("a1" * 8, "a1" * 8, "") == [""]
    drawn = CONFIG | {"encoder": {"name": "hubert", "weights": "random", "options": {"seed": 0}}}
    runs = [
        make(str(i), encoder="hubert:random", seed=i, encoder_fingerprint=f"{i}" * 16,
             config=drawn | {"seed": i, "encoder": {**drawn["encoder"], "options": {"seed": i}}})
        for i in range(2)
    ]  # fmt: skip
    assert [key[3] for key in arrange(runs).keys] == [""]  # each seed draws its own


def test_strangers_components_tell_rows_apart() -> None:
    runs = [make(str(i), seed=i, versions={"torch": str(i), "my plugin": str(i)}) for i in (0, 1)]
    assert [key[3] for key in arrange(runs).keys] == ["my plugin=0", "my plugin=1"]


def test_brief_settings_say_what_is_on_first() -> None:
    one = "a.x=none, b.y=2, train.lr=1, view.window=3, c=false, d=0, e=null, f=0.0, g=, h=10"
    assert brief([one, ""]) == ["y=2, h=10, lr=1, +7", ""]
    assert brief([one]) == ["y=2, h=10, lr=1, +7"]
    assert brief(["a=1, b=2, c=3", "a=1, b=2, c=4"]) == ["a=1, b=2, c=3", "a=1, b=2, c=4"]
    assert brief(["a=1, b=2, c=3, d=4", "a=1, b=2, c=3, d=5"]) == [
        "a=1, b=2, c=3, d=4", "a=1, b=2, c=3, d=5"
    ]  # fmt: skip
    assert brief(["head.x=1, task.x=2, task.y=a, b"]) == ["head.x=1, task.x=2, y=a, b"]


@pytest.mark.parametrize(
    ("encoder", "fingerprint", "name"),
    [("hubert:base", "f1" * 8, "hubert:base"), ("hubert:base", "", "hubert:base")],
)
def test_names_of_encoders(encoder: str, fingerprint: str, name: str) -> None:
    assert shown(encoder, fingerprint) == name
    folder = shown("hubert:/models/mine", "f1" * 8)
    assert "/models" not in folder and folder.endswith("-f1f1f1f1")
    assert shown("hubert:/models/mine", "") == "hubert:/models/mine"
