//! ACME's compiler: tilewright's command line with ACME's parts.

fn main() -> std::process::ExitCode {
    acme_npu::session().run_cli()
}
