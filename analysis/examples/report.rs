//! Writes the report of a record: `cargo run -p analysis --example report RECORD OUT`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut names = std::env::args_os().skip(1);
    let (Some(record), Some(out)) = (names.next(), names.next()) else {
        return Err("usage: report RECORD OUT".into());
    };
    let done = analysis::report(record.as_ref(), out.as_ref(), &analysis::Options::default())?;
    println!("{} {} {}", done.trial_id, done.verdict, done.because);
    Ok(())
}
