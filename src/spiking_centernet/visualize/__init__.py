"""Events, boxes and curves as pictures, video and pages."""
