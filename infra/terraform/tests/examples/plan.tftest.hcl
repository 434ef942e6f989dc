# An example plans. Which one, says `-var-file`.

mock_provider "aws" {
  override_during = plan
  source          = "./tests/mocks"
}

run "the_example_plans" {
  command = plan

  assert {
    condition     = output.service == "airunner-${var.environment}" && strcontains(output.server_environment["AIRUNNER_JOURNAL"], "s3://")
    error_message = "The example makes a service that keeps a journal."
  }
}
