"""A labeled world without a data set: procedural roads, an event camera, GEN1-style folders."""
