//! Generated messages and services of the airunner API, and its descriptor set.
