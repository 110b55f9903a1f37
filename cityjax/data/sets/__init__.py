"""The data sets, one module each: `DATASET`, read by `cityjax.data.catalog`."""
