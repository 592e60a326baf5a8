from prefmill.engine.prefix import batches, pack, share


def test_rows_are_sorted_split_and_batched_by_length():
    rows = share([*(((1, 2), (3,) * length) for length in (5, 1, 3, 2)), ((9,), (3,))], longest=9)
    assert [len(row) for row in rows] == [2, 7, 8]
    assert [row.places for row in rows] == [(4,), (2, 3), (0, 1)]
    assert [[len(row) for row in batch] for batch in batches(rows, 16)] == [[2, 7], [8]]
    packed = pack(rows[:2], pad=0)
    assert packed.tokens.tolist() == [[9, 3, 0, 0, 0, 0, 0], [1, 2, 3, 3, 3, 3, 3]]
    assert packed.positions[1].tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert packed.segments.tolist() == [[0, 1, -1, -1, -1, -1, -1], [0, 0, 1, 1, 1, 2, 2]]
    visible = packed.visible()
    assert visible is not None
    assert visible[1, 0, 5].tolist() == [True, True, False, False, False, True, False]
    assert visible.any(-1).all()  # a token that sees nothing would be NaN
    assert pack(rows[:1], pad=0).visible() is None
