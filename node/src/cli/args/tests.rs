use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Command, clap::error::ErrorKind> {
    let words = std::iter::once("bithealth").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.kind())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_ends_with_the_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit status:") && help.contains("64"), "{help}");
}

#[test]
fn no_argument_takes_a_passphrase() {
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(!name.contains("passphrase") || name == "passphrase_file", "{name}");
        }
    }
}

#[test]
fn a_network_is_founded_with_everything_named() {
    let line = "init --network north --name Anna --region graz --jurisdiction at --listen 0.0.0.0:4001 --capacity 1TB";
    let Ok(Command::Init(args)) = parse(line) else { panic!("not init") };
    assert_eq!((args.network.as_str(), args.name.as_str()), ("north", "Anna"));
    assert_eq!(args.site.jurisdiction, "AT");
    assert_eq!(args.site.offer.listen, ["/ip4/0.0.0.0/tcp/4001"]);
    assert_eq!(args.site.offer.capacity, Some(ByteLen(1_000_000_000_000)));
}

#[test]
fn a_passphrase_file_and_a_key_file_exclude_each_other() {
    let error = parse("node --passphrase-file a --key-file b").unwrap_err();
    assert_eq!(error, clap::error::ErrorKind::ArgumentConflict);
}

#[test]
fn get_wants_exactly_one_kind_of_what() {
    let id = RecordId([1; 16]);
    assert!(parse(&format!("get {id}")).is_ok());
    assert!(parse("get --all -o d").is_ok());
    assert!(parse("get --patient p -o d").is_ok());
    assert!(parse("get").is_err());
    assert!(parse("get --all").is_err());
    assert!(parse("get --patient p").is_err());
    assert!(parse(&format!("get {id} --all -o d")).is_err());
    assert!(parse("get xyz").is_err());
    assert!(parse("get --patient p --own -o d").is_ok());
    assert!(parse(&format!("get {id} --own")).is_err());
}

#[test]
fn a_range_may_start_with_a_hyphen() {
    let id = RecordId([1; 16]);
    let range = |text: &str| match parse(&format!("get {id} --range {text}")) {
        Ok(Command::Get(args)) => args.range,
        other => panic!("{other:?}"),
    };
    assert_eq!(range("-5"), Some(ByteRange::Last { len: 5 }));
    assert_eq!(range("2-"), Some(ByteRange::From { first: 2 }));
    assert_eq!(range("2-3"), Some(ByteRange::Span { first: 2, last: 3 }));
    assert!(parse("get --all -o d --range 0-1").is_err());
}

#[test]
fn put_takes_several_readers() {
    let Ok(Command::Put(args)) = parse("put a b --for North --for South --survive 1,2 --wait replicated") else {
        panic!("not put");
    };
    assert_eq!(args.for_, ["North", "South"]);
    assert_eq!(args.survive, Some(SurviveWanted { regions: 1, nodes: 2 }));
    assert_eq!(args.wait, Some(WaitFor::Replicated));
    assert!(parse("put").is_err());
}

#[test]
fn global_options_stand_anywhere() {
    let cli = Cli::try_parse_from(["bithealth", "status", "--json", "--data-dir", "d"]).unwrap();
    assert!(cli.json);
    assert_eq!(cli.data_dir, Some("d".into()));
}
