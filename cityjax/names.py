"""Names a configuration may use, kept free of imports so that checking one costs nothing."""

OPTIMIZERS = (
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "rmsprop",
    "lion",
    "adagrad",
    "lamb",
)
SCHEDULES = ("constant", "cosine", "linear")
ACTIVATIONS = (
    "linear",
    "sigmoid",
    "shifted_sigmoid",
    "relu",
    "leaky_relu",
    "tanh",
    "gelu",
    "silu",
    "elu",
    "softplus",
)
CELLS = ("simple", "gru", "lstm")
CALENDAR = ("day", "week", "year")
