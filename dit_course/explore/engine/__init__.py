"""What sliders are made of: canvas, background work, views, charts, keyboard."""
