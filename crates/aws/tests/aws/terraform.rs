//! Terraform makes the tables that the code describes. What AWS then has is looked at by `tools/check-terraform`.

#[path = "../../examples/tables.rs"]
#[expect(dead_code, reason = "the example's main is of no use here")]
mod description;

use serde_json::Value;

const COMMITTED: &str = include_str!("../../../../infra/terraform/modules/tables/tables.json");

#[test]
fn terraform_reads_the_tables_that_the_code_describes() {
    let committed: Value = serde_json::from_str(COMMITTED).unwrap();
    let described = description::tables();
    for (name, table) in described.as_object().unwrap() {
        assert_eq!(
            &committed[name], table,
            "{name}: run `make terraform-generate` and commit what it writes"
        );
    }
    // Also none that the code does not know.
    assert_eq!(committed, described, "run `make terraform-generate` and commit what it writes");
}
