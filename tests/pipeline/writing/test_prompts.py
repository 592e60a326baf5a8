"""Writing until there is enough: quotas, near duplicates, junk, kills, and what is said when it is not enough."""

import json
from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.engine.responders.interface import Answer, Failure
from prefmill.engine.settings import EngineSettings, Sampling
from prefmill.pipeline.prompts import PromptsConfig, read_prompts
from prefmill.pipeline.records import Prompt
from prefmill.pipeline.writing.output import PromptWritingConfig, write_prompts

CPU = EngineSettings(device="cpu")
ANIMALS = "otter heron lynx moth toad wren carp mole newt stoat".split()  # noqa: SIM905
PLACES = "attic bog cellar dune estuary field gully harbor island jungle".split()  # noqa: SIM905


def scene(number):
    animal, place = ANIMALS[number % 10], PLACES[number // 10 % 10]
    return f"{animal} {number} sleeping near {place} {number}"


def config(**changes):
    values = {
        "model": "m",
        "backend": "scripted",
        "topics": "art,nature",
        "count": 8,
        "per_request": 3,
        "batch_size": 2,
    }
    return PromptWritingConfig(**(values | changes))


def rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class Counting:
    """A model that never says the same twice, in lists of three."""

    def __init__(self):
        self.said = 0

    def __call__(self, request):
        self.said += 3
        return "\n".join(f"{n}. {scene(n)}" for n in range(self.said - 3, self.said))


def test_each_topic_gets_its_share_and_a_run_reads_the_rows(tmp_path, scripted):
    scripted.say(Counting())
    to = tmp_path / "p.jsonl"
    account = write_prompts(to, config(count=7), CPU)
    assert {name: (one["asked"], one["kept"]) for name, one in account["topics"].items()} == {
        "art": (4, 4),
        "nature": (3, 3),
    }
    assert account["usage"]["requests"] == 3
    assert account["usage"]["cost"] == 1.5
    assert account["rejected"] == {"surplus": 2}
    read = read_prompts(PromptsConfig(path=str(to)))
    assert [(item.source, item.text, item.topic) for item in read if isinstance(item, Prompt)] == [
        (row["id"], row["text"], row["topic"]) for row in rows(to)
    ]
    assert [row["topic"] for row in rows(to)] == ["art"] * 4 + ["nature"] * 3
    assert scripted.last.closed
    assert scripted.last.folder == tmp_path / "p.jsonl.written" / "paid"
    manifest = json.loads((tmp_path / "p.jsonl.written" / "manifest.json").read_text())
    assert manifest["account"] == account
    assert manifest["settings"]["runtime"] == "scripted-1"


def test_every_text_is_kept_or_a_reject_with_its_reason(tmp_path, scripted):
    replies = iter(
        [
            f"Sure, here you go:\n{scene(1)}\n{scene(1)}\n{scene(2)} <b>",
            Failure("rate_limit", "status 429 six times"),
            Answer(f"{scene(3)}\n{scene(4)[:-3]}", "length", 9),
            f"{scene(5)}\n{scene(1)}!",
        ]
    )
    counting = Counting()
    counting.said = 30
    scripted.say(lambda request: next(replies, None) or counting(request))
    to = tmp_path / "p.jsonl"
    account = write_prompts(to, config(topics="art", count=6, batch_size=1), CPU)
    rejects = rows(tmp_path / "p.jsonl.written" / "rejects.jsonl")
    assert [row["reason"] for row in rejects] == [
        *("preamble", "duplicate", "markup", "rate_limit", "cut", "near_duplicate"),
    ]
    assert rejects[3]["text"] == "status 429 six times"
    assert rejects[5]["repeats"] == rows(to)[0]["id"]
    assert account["topics"]["art"]["read"] == 6 + len(rejects)
    assert [row["text"] for row in rows(to)] == [scene(n) for n in (1, 3, 5, 30, 31, 32)]


def test_what_was_answered_before_a_kill_is_not_asked_again(tmp_path, scripted):
    model, whole = Counting(), tmp_path / "whole.jsonl"
    scripted.say(model)
    write_prompts(whole, config(count=18), CPU)
    asked = scripted.last.asked
    assert len(asked) == 3

    def killed(request, model=Counting()):  # noqa: B008
        if model.said >= 12:
            raise KeyboardInterrupt
        return model(request)

    to = tmp_path / "p.jsonl"
    scripted.say(killed)
    with pytest.raises(KeyboardInterrupt):
        write_prompts(to, config(count=18), CPU)
    assert not to.exists()
    journal = tmp_path / "p.jsonl.written" / "replies.jsonl"
    with journal.open("ab") as file:  # and the machine went down while it wrote
        file.write(b'\n{"names": ["x"], "repl')
    model = Counting()
    model.said = 12
    scripted.say(model)
    write_prompts(to, config(count=18), CPU)
    assert scripted.last.asked == asked[2:]
    assert to.read_bytes() == whole.read_bytes()
    model.said = 18
    more = write_prompts(to, config(count=20), CPU)  # asking for more uses what is there
    assert scripted.last.asked == [scripted.last.asked[0]]
    assert more["kept"] == 20
    assert more["usage"]["requests"] == 8


def test_another_setting_does_not_write_over_a_file(tmp_path, scripted):
    to = tmp_path / "p.jsonl"
    write_prompts(to, PromptWritingConfig(topics="art", count=3), CPU)
    before = to.read_bytes()
    with pytest.raises(PrefmillError, match="other settings: seed"):
        write_prompts(to, PromptWritingConfig(topics="art", count=3, seed=1), CPU)
    (tmp_path / "theirs.jsonl").write_text("{}\n")
    with pytest.raises(PrefmillError, match="was not written by this command"):
        write_prompts(tmp_path / "theirs.jsonl", PromptWritingConfig(), CPU)
    with pytest.raises(PrefmillError, match=r"no \.jsonl file"):
        write_prompts(tmp_path / "p.csv", PromptWritingConfig(), CPU)
    assert to.read_bytes() == before


def test_a_model_that_repeats_itself_is_given_up_and_not_asked_for_ever(tmp_path, scripted):
    scripted.say(lambda request: "\n".join(map(scene, range(3))))
    seen = []

    class Seen(Progress):
        def step(self, name, steps, note=""):
            seen.append(steps)

    account = write_prompts(tmp_path / "p.jsonl", config(topics="art", count=900), CPU, Seen())
    assert account["kept"] == len(rows(tmp_path / "p.jsonl")) == 3
    assert sum(seen) == 3
    assert account["usage"]["requests"] == 10  # one that brought three, eight in vain, and the batch's other
    assert account["rejected"] == {"near_duplicate": 27}


def test_a_grammar_that_is_exhausted_says_so(tmp_path):
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics" / "tiny.yaml").write_text(
        "hint: a\naspects: [b]\ngrammar: {prompt: ['{x} seen from far away today'], x: [cats, dogs, owls]}\n"
    )
    own = PromptWritingConfig(topics="tiny,art", count=40, wording=str(tmp_path), similarity=1.0)
    account = write_prompts(tmp_path / "p.jsonl", own, CPU)
    assert (account["topics"]["tiny"]["kept"], account["topics"]["art"]["kept"]) == (3, 20)
    assert account["topics"]["tiny"]["rejected"]["near_duplicate"] >= 300


def test_a_real_model_is_asked_through_the_same_interface(tmp_path, cache):
    """Random weights write nothing of use: each reply is on record, and no empty prompt comes of it."""
    chosen = PromptWritingConfig(
        model="random:text-model", topics="art", count=1, batch_size=8, sampling=Sampling(max_new_tokens=4)
    )
    account = write_prompts(tmp_path / "p.jsonl", chosen, CPU)
    assert "+transformers-" in account["writer"]
    assert account["usage"]["requests"] == 8
    assert account["kept"] == 0
    assert sum(account["rejected"].values()) >= 8
    assert (tmp_path / "p.jsonl").read_bytes() == b""
