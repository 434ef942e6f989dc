//! What is proved of the crates as they are shipped, and so in a crate where no test feature is on: that unauthorized
//! code does not compile, which crate may know which, what JSON costs.
