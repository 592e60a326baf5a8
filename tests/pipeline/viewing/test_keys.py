"""Ids as numbers: what Python says of each, and maps that find what a dictionary finds."""

import hashlib

import numpy as np
import pyarrow as pa
from prefmill.pipeline.records import content_id
from prefmill.pipeline.viewing.keys import UNKNOWN, KeyMap, key_of, keys_of


def test_keys_are_the_first_64_bits_of_an_id_and_a_hash_of_other_texts():
    ids = [content_id("x", n) for n in range(50)]
    others = ["file.jsonl:3", "", None, "ABCDEF0123456789ABCDEF0123456789", "é" * 16, "a" * 31]
    expected = [int(one[:16], 16) for one in ids]
    expected += [
        int.from_bytes(hashlib.blake2b(one.encode(), digest_size=8).digest(), "big") if one else 0 for one in others
    ]
    for column in (
        pa.array(ids + others),
        pa.chunked_array([ids + others]),
        pa.chunked_array([["z", *ids], others]).slice(1),
    ):
        assert keys_of(column).tolist() == expected
    assert int(key_of(ids[3])) == expected[3]
    assert keys_of(pa.chunked_array([], pa.string())).tolist() == []


def test_a_map_finds_what_a_dictionary_finds():
    random = np.random.default_rng(1)
    known, found = {}, KeyMap()
    for size in (1, 1, 3, 700, 2, 50, 1500, 1):
        keys = random.integers(1, 2**63, size).astype(np.uint64)
        keys[0] = next(iter(known), keys[0])  # one that is there already: the first one counts
        numbers = random.integers(0, 10**6, size)
        for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
            known.setdefault(key, number)
        found.add(keys, numbers)
    asked = np.array([*known, 5, 0], np.uint64)
    assert found.find(asked).tolist() == [*known.values(), UNKNOWN, UNKNOWN]
    assert found.get("nobody") == UNKNOWN
    assert KeyMap().find(asked).tolist() == [UNKNOWN] * len(asked)
