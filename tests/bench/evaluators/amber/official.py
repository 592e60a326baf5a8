"""The official loops of AMBER (inference.py), read from the script and written down without the product's code.

Nouns and near-synonyms are handed in, since they come from language tools there.
"""

from collections import defaultdict

KINDS = {
    "discriminative-attribute-state": "as",
    "discriminative-attribute-number": "an",
    "discriminative-attribute-action": "aa",
    "discriminative-hallucination": "ha",
}


def score(rows, annotations, association, never, nouns_of, similar):
    """Return the printed numbers by group; annotations are found by id - 1, as there."""
    metric = defaultdict(lambda: 0)
    number = defaultdict(lambda: 0.001)
    vocabulary = [word for one, others in association.items() for word in (one, *others)]
    for row in rows:
        truth = annotations[row["id"] - 1]
        if truth["type"] == "generative":
            describe(row["response"], truth, association, vocabulary, never, nouns_of, similar, metric, number)
        else:
            choose(row["response"], truth, metric, number)
    types = {annotations[row["id"] - 1]["type"] for row in rows} - {"generative"}
    return printed(metric, number, {KINDS.get(one, "asso") for one in types})


def describe(text, truth, association, vocabulary, never, nouns_of, similar, metric, number):
    nouns = [noun for noun in nouns_of(text) if noun in vocabulary]

    def listed(things):
        words, flags = [], []
        for place, word in enumerate(things):
            words += association[word]
            flags += [place] * len(association[word])
        return words + things, flags + [0] * len(things), len(things)

    def mark(flags, length, place):
        start = len(flags) - length
        flags[flags[place] + start if place < start else place] = 1

    safe, safe_flags, safe_length = listed(truth["truth"])
    bad, bad_flags, bad_length = listed(truth["hallu"])
    invented = [0] * len(nouns)
    for place, noun in enumerate(nouns):
        if noun in never:
            continue
        if noun in safe:
            mark(safe_flags, safe_length, safe.index(noun))
            continue
        if noun in bad:
            mark(bad_flags, bad_length, bad.index(noun))
        for other, word in enumerate(bad):
            if similar(noun, word) > 0.8:
                mark(bad_flags, bad_length, other)
                break
        near = False
        for other, word in enumerate(safe):
            if similar(noun, word) > 0.8:
                near = True
                mark(safe_flags, safe_length, other)
                break
        if not near:
            invented[place] = 1
    metric["chair"] += sum(invented)
    number["chair"] += len(invented)
    metric["cover"] += sum(safe_flags[-safe_length:])
    number["cover"] += len(safe_flags[-safe_length:])
    metric["cog"] += sum(bad_flags[-bad_length:])
    number["cog"] += len(bad_flags[-bad_length:])
    metric["clean"] += sum(invented) == 0
    number["clean"] += 1


def choose(response, truth, metric, number):
    for kind in ("", KINDS.get(truth["type"], "asso")):
        number[kind, "right"] += 1
        if truth["truth"] == "yes":
            metric[kind, "right"] += response == "Yes"
        else:
            number[kind, "no"] += 1
            metric[kind, "right"] += response == "No"
            metric[kind, "no"] += response == "No"
        if response == "No":
            number[kind, "said"] += 1
            metric[kind, "said"] += truth["truth"] == "no"


def printed(metric, number, kinds):
    found = {}
    if number["clean"] > 0.01:
        found["generative"] = {
            "CHAIR": round(metric["chair"] / number["chair"] * 100, 1),
            "Cover": round(metric["cover"] / number["cover"] * 100, 1),
            "Hal": round(100 - metric["clean"] / number["clean"] * 100, 1),
            "Cog": round(metric["cog"] / number["cog"] * 100, 1),
        }
    groups = {"discriminative": [""], "existence": ["ha"], "attribute": ["as", "an", "aa"], "relation": ["asso"]}
    groups |= {"state": ["as"], "number": ["an"], "action": ["aa"]}
    for group, own in groups.items():
        if not set(own) <= kinds | {""}:
            continue
        accuracy, precision, recall = (
            round(sum(metric[kind, what] for kind in own) / sum(number[kind, what] for kind in own) * 100, 1)
            for what in ("right", "said", "no")
        )
        beside = 0.001 if group == "existence" else 0.0001
        f1 = round(2 * (precision / 100) * (recall / 100) / ((precision / 100) + (recall / 100) + beside) * 100, 1)
        found[group] = {"accuracy": accuracy, "precision": precision, "recall": recall, "F1": f1}
    return found
