"""What the explorers share: canvas, background worker, views, charts, keyboard access."""
