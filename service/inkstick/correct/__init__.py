"""What a person does with a page: which places to look at, what is changed, what differs. Pure."""
