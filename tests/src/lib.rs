//! bithealth-tests
