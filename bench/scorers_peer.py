"""The image-reward package as a worker process: run by the Python of its own environment, and of nothing of ours.

Reads one line for each round on stdin and answers with one JSON line: scores and seconds of scoring every image on
its own, as the package does, from decoded pixels: over a Pillow image for the line `memory`, and over a PNG file, as
PDS-DPO's pipeline does, for the line `files`. Arguments: a folder with ImageReward.pt, med_config.json and
bert-base-uncased/vocab.txt, and the number of threads.
"""

import json
import os
import sys
import time

import ImageReward  # type: ignore[import-not-found]  # only in the peer's own environment: elsewhere it ends here
import numpy as np
import torch
from PIL import Image


def main(folder: str, threads: int) -> None:
    """Load the package's model from `folder` and answer until stdin ends."""
    os.chdir(folder)  # the package asks for the tokenizer `bert-base-uncased`, which is a folder here
    torch.set_num_threads(threads)
    model = ImageReward.load("ImageReward.pt", device="cpu", med_config="med_config.json")
    images = torch.from_numpy(np.load("images.npy"))
    with open("prompts.json", encoding="utf-8") as file:  # noqa: PTH123 - one plain read
        prompts = json.load(file)
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        scores = []
        with torch.no_grad():
            for image, prompt in zip(images, prompts, strict=True):
                picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
                if line.strip() == "files":
                    picture.save("image.png")
                scores.append(model.score(prompt, "image.png" if line.strip() == "files" else picture))
        timing = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps({"scores": scores, **timing}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
