"""What is done with a finished audit: loggers, files and the screen."""
