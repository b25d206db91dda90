"""What an audit leaves behind: the result, its numbers, its files."""
