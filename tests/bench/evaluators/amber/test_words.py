"""Nouns and near-synonyms: NLTK's own functions on small data made here, the light reading, and tables of words."""

from itertools import combinations

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.evaluators.amber.nouns import light_nouns, nltk_nouns
from prefmill.bench.evaluators.amber.similarity import read_similarity, spacy_pipeline, write_similarity


def test_nouns_are_those_of_the_official_calls(nltk_data):
    from nltk.stem import WordNetLemmatizer

    nouns, version = nltk_nouns()
    text = "The dogs sit near a cat. The men orange cups sit. Dogs near zebras."
    assert nouns(text) == ["dog", "cat", "man", "cup", "Dogs", "zebras"]
    tagged = nltk_data.pos_tag(nltk_data.word_tokenize(text))
    assert nouns(text) == [WordNetLemmatizer().lemmatize(word) for word, tag in tagged if tag.startswith("NN")]
    assert version == nltk_data.__version__


def test_missing_data_of_nltk_is_named_with_its_command(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(PrefmillError, match="NLTK's data is not there") as error:
        nltk_nouns()
    assert "nltk.downloader punkt_tab averaged_perceptron_tagger_eng wordnet" in error.value.fix


def test_light_nouns_are_words_of_the_vocabulary_or_their_plurals():
    nouns = light_nouns(frozenset({"dog", "bus", "man", "TV", "leaf", "knife", "berry", "glass", "people"}))
    text = "Dogs, buses and two men; a TV, leaves, knives, berries. A glass of glasses! The people's dog-house."
    expected = ["dog", "bus", "man", "TV", "leaf", "knife", "berry", "glass", "glass", "people", "dog"]
    assert nouns(text) == expected


class Word:
    """What a spaCy document of one word offers of it."""

    def __init__(self, vector):
        self.vector, self.has_vector = vector, bool(np.any(vector))

    def similarity(self, other):
        norms = np.linalg.norm(self.vector) * np.linalg.norm(other.vector)
        return np.float32(self.vector @ other.vector / norms if norms else 0.0)


VECTORS = {
    "sea": np.array([1, 0, 0.1], dtype=np.float32),
    "lake": np.array([1, 0, 0.3], dtype=np.float32),
    "dog": np.array([0, 1, 0], dtype=np.float32),
    "odd": np.zeros(3, dtype=np.float32),
}


def test_a_table_says_what_the_pipeline_says(tmp_path):
    path = tmp_path / "table.tsv"
    assert write_similarity(path, VECTORS, lambda word: Word(VECTORS[word]), "toy 1.0") == 6
    table = read_similarity(path, frozenset(VECTORS))
    assert table.model == "toy 1.0"
    for one, other in combinations(VECTORS, 2):
        alike = Word(VECTORS[one]).similarity(Word(VECTORS[other])) > 0.8
        assert table(one, other) == table(other, one) == alike
    assert table("odd", "odd")
    assert table("sea", "lake")
    assert not table("sea", "dog")
    with pytest.raises(PrefmillError, match="lacks the pair 'cow' and 'dog'"):
        read_similarity(path, frozenset({*VECTORS, "cow"}))


def test_a_pipeline_without_vectors_makes_no_table(tmp_path):
    with pytest.raises(PrefmillError, match="toy has no vectors"):
        write_similarity(tmp_path / "table.tsv", ["a", "b"], lambda _: Word(np.zeros(3)), "toy")
    with pytest.raises(PrefmillError, match="cannot be loaded"):
        spacy_pipeline("en_no_such_model")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("# m\na\tb\n", "table.tsv:2: no word"),
        ("# m\na\tb\tx\n", "table.tsv:2: no word"),
        ("# m\na\tb\tinf\n", "table.tsv:2: 'inf' is no similarity"),
        ("a\tb\t0.5\n", "does not say which model"),
    ],
)
def test_tables_that_are_none(tmp_path, content, fault):
    (tmp_path / "table.tsv").write_text(content)
    with pytest.raises(PrefmillError, match=fault):
        read_similarity(tmp_path / "table.tsv", frozenset("ab"))
