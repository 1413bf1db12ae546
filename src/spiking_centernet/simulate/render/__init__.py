"""From a scene to frames: geometry, textures, sampling."""
