"""The official loops of POPE, read from the scripts and written down without any of the product's code.

evaluate.py of RUCAIBox/POPE (eval_pope.py of LLaVA has the same loop), and the task `pope` of lmms-eval.
"""


def by_order(texts, labels):
    """TP, FP, TN, FN and the five numbers; None for what divides by nothing there."""
    predictions = []
    for text in texts:
        first = text.split(".")[0] if text.find(".") != -1 else text
        words = first.replace(",", "").split(" ")
        predictions.append(0 if "No" in words or "not" in words or "no" in words else 1)
    tp = tn = fp = fn = 0
    for predicted, label in zip(predictions, [0 if label == "no" else 1 for label in labels], strict=True):
        if predicted == 1 and label == 1:
            tp += 1
        elif predicted == 1:
            fp += 1
        elif label == 0:
            tn += 1
        else:
            fn += 1
    precision = tp / (tp + fp) if tp + fp else None
    recall = tp / (tp + fn) if tp + fn else None
    f1 = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
    numbers = {
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "precision": precision,
        "recall": recall,
        "F1": f1,
        "yes ratio": predictions.count(1) / len(predictions),
    }
    return {"TP": tp, "FP": fp, "TN": tn, "FN": fn}, numbers


def lmms(texts, labels):
    """The five numbers of lmms-eval, whose yes ratio is the truth's."""
    rows = [(text.lower().strip(), label) for text, label in zip(texts, labels, strict=True)]
    tp = sum(label == "yes" and said == "yes" for said, label in rows)
    fp = sum(label == "no" and said == "yes" for said, label in rows)
    fn = sum(label == "yes" and said == "no" for said, label in rows)
    precision = tp / (tp + fp) if tp + fp else 0
    recall = tp / (tp + fn) if tp + fn else 0
    return {
        "accuracy": sum(said == label for said, label in rows) / len(rows),
        "precision": precision,
        "recall": recall,
        "F1": 2 * precision * recall / (precision + recall) if precision + recall else 0,
        "yes ratio of the truth": sum(label == "yes" for _, label in rows) / len(rows),
    }
