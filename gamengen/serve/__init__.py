"""The served game: a model folder becomes a page and a websocket that anyone can play."""
