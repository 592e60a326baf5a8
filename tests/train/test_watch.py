"""The warning that chosen answers fall: when, once, and again known after a stop."""

from prefmill.train.watch import ChosenWatch


def lines(*differences, beta=0.1):
    return [{"step": step + 1, "rewards/chosen": beta * value} for step, value in enumerate(differences)]


def test_it_is_said_once_when_the_mean_has_fallen_by_a_nat():
    watch = ChosenWatch(0.1, window=3)
    said = [watch(line) for line in lines(-5, 5, -2, -2, 0, -1.5, -4, -9)]
    # means of three: -0.67, 0.33, -1.33
    assert [number + 1 for number, text in enumerate(said) if text] == [5]
    assert said[4]
    assert "by step 5 their log-probability was 1.3 below" in said[4]
    assert "sft_weight" in said[4]
    assert "learning_rate" in said[4]


def test_a_rise_says_nothing():
    watch = ChosenWatch(0.1, window=3)
    assert not any(watch(line) for line in lines(*range(20)))


def test_a_continued_training_knows_its_window_and_what_was_said():
    before, last = lines(-1, -1, -2)[:2], lines(-1, -1, -2)[2]
    text = ChosenWatch(0.1, before, window=3)(last)
    assert text is not None
    assert ChosenWatch(0.1, before, [text], window=3)(last) is None
