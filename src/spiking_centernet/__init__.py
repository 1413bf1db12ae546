"""Object detection from event cameras with spiking neural networks."""
