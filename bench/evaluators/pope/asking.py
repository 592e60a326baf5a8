"""POPE's questions as a model is asked them, and the rows that its answers become."""

from __future__ import annotations

from ..answering.questions import BenchmarkQuestion
from .questions import ObjectQuestions


def pope_questions_to_ask(questions: ObjectQuestions) -> list[BenchmarkQuestion]:
    """Return every question; an answer's row has its id and its category, which tell it from all others."""
    found = []
    for category, own in questions.by_category.items():
        for one in own:
            row = {"question_id": one.id, "image": one.image, "question": one.text, "category": category}
            found.append(BenchmarkQuestion(f"{category}/{one.id}", one.text, (one.image,), row, "answer", short=True))
    return found
