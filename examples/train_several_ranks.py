"""Trains one model by several processes: ``mpiexec -n 4 python train_several_ranks.py``.

Needs ``pip install convec[mpi]``. Without mpiexec it is one process. Stopped at any moment, the same command goes on
from the last epoch that is in the folder ``training-backup``, also with another number of processes.
"""

from __future__ import annotations

import sys

import convec.distributed as dist
import numpy as np
from convec import datasets, utils
from convec.callbacks import BackupAndRestore
from convec.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from convec.models import Sequential

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 5

dist.init_process_group(timeout=120)
utils.set_random_seed(1)

# All ranks read the same images; each computes its part of every batch.
(x_train, y_train), (x_test, y_test) = datasets.load_sample()
x_train, x_test = (x[..., np.newaxis].astype(np.float32) / 255 for x in (x_train, x_test))

model = Sequential(
    [
        Input((28, 28, 1)),
        Conv2D(32, 3, activation="relu"),
        MaxPooling2D(2),
        Conv2D(64, 3, activation="relu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(64, activation="relu"),
        Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x_train,
    y_train,
    batch_size=64,  # over all ranks
    epochs=EPOCHS,
    validation_data=(x_test, y_test),
    callbacks=[BackupAndRestore("training-backup")],
)

if dist.get_rank() == 0:
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"{dist.get_world_size()} ranks: test loss {loss:.3f}, accuracy {accuracy:.3f}")
    model.save("several_ranks.safetensors")
dist.destroy_process_group()
