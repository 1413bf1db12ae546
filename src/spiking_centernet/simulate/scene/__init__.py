"""What is in a simulated world: street, traffic, actors, light and camera."""
