# An example plans. Which one, says `-var-file`.

mock_provider "aws" {
  override_during = plan
  source          = "./tests/mocks"
}

run "the_example_plans" {
  command = plan

  assert {
    condition     = output.service == "airunner-${var.environment}" && output.server_environment["AIRUNNER_STORE_BACKEND"] == "dynamodb"
    error_message = "The example makes a service that keeps a journal."
  }
}
