"""init: a look at raw data, and the project file that follows from it."""
