"""NLTK's data sets in small, for the evaluators that read words with it."""

import json

import pytest

TAGS = {"The": "DT", "dogs": "NNS", "men": "NNS", "sit": "VBP", "near": "IN", "cat": "NN", "orange": "JJ", ".": "."}
TAGS |= {"Dogs": "NNS", "a": "DT", "cups": "NNS"}


@pytest.fixture
def nltk_data(tmp_path, monkeypatch):
    """NLTK's three data sets with a dozen words: a tagger of known words, and a WordNet of four nouns."""
    nltk = pytest.importorskip("nltk")
    punkt = tmp_path / "tokenizers" / "punkt_tab" / "english"
    tagger = tmp_path / "taggers" / "averaged_perceptron_tagger_eng"
    wordnet = tmp_path / "corpora" / "wordnet"
    for folder in (punkt, tagger, wordnet):
        folder.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (punkt / name).write_text("")
    parts = {"weights": {"bias": {"NN": 1.0}}, "tagdict": TAGS, "classes": sorted(set(TAGS.values()))}
    for name, part in parts.items():
        (tagger / f"averaged_perceptron_tagger_eng.{name}.json").write_text(json.dumps(part))
    for name in ("lexnames", "cntlist.rev", "index.sense"):
        (wordnet / name).write_text("")
    for kind in ("noun", "verb", "adj", "adv"):
        (wordnet / f"data.{kind}").write_text("")
        (wordnet / f"{kind}.exc").write_text("men man\n" if kind == "noun" else "")
        words = ("dog", "cat", "man", "cup") if kind == "noun" else ()
        (wordnet / f"index.{kind}").write_text("".join(f"{word} n 1 0 1 0 00000000  \n" for word in words))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    return nltk
