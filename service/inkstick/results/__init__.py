"""Text becomes files: the output formats, and the one rename that publishes them."""
