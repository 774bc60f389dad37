"""What people ask about a queue, answered as values: the command line, Python and a web page only have to draw them."""
