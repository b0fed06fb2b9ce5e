//! Steps: their order, their answers, and what ends a script.

use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Script, SqlErrorKind};

use super::{Case, Site};

pub(super) async fn answers_are_text_in_order(site: &dyn Site) {
    let case = Case::new(site, "answers").await;
    let nasty = "it's \"quoted\" \\n \n\t $1 $$ ; -- /* %s \u{feff}\u{2019} \u{1f418}";
    let script = case
        .script("SELECT NULL, 'a b', 1.50, true, false, ''")
        .step(Statement::fixed(
            "SELECT n, -n FROM generate_series(1, 1000) AS n",
        ))
        .step(Statement::fixed("SELECT 1 WHERE false"))
        .step(Statement::fixed("SELECT ").literal(nasty).raw(", ").number(-1))
        .step(Statement::fixed("SELECT 'x' AS same, 'y' AS same"));
    let answers = case.good(&script).await;
    let cell = |text: &str| Some(text.to_owned());
    assert_eq!(
        answers[0],
        [vec![
            None,
            cell("a b"),
            cell("1.50"),
            cell("t"),
            cell("f"),
            cell("")
        ]],
        "columns are PostgreSQL's text, and NULL is not the empty string"
    );
    let rows: Vec<_> = (1..=1000)
        .map(|n| vec![cell(&n.to_string()), cell(&(-n).to_string())])
        .collect();
    assert_eq!(answers[1], rows, "every row comes, in order");
    assert!(answers[2].is_empty(), "no row is no row: {:?}", answers[2]);
    assert_eq!(
        answers[3],
        [[cell(nasty), cell("-1")]],
        "a literal comes back as it went in"
    );
    assert_eq!(
        answers[4],
        [[cell("x"), cell("y")]],
        "columns go by place, not by name"
    );

    for nothing in [
        Script::new("nothing"),
        Script::new("nothing").in_transaction(),
        Script::new("nothing").on_fresh_session(),
    ] {
        assert!(
            case.good(&nothing).await.is_empty(),
            "a script without steps has no answers"
        );
    }

    let one_session = case
        .script("CREATE TEMP TABLE mine (pid int)")
        .step(Statement::fixed(
            "INSERT INTO pg_temp.mine SELECT pg_backend_pid()",
        ))
        .step(Statement::fixed(
            "SELECT pid = pg_backend_pid() FROM pg_temp.mine",
        ))
        .step(Statement::fixed("DROP TABLE pg_temp.mine"))
        .step(Statement::fixed("SELECT 'done'"));
    let answers = case.good(&one_session).await;
    assert_eq!(answers[3].len(), 0, "a command has no rows");
    assert_eq!(
        answers[2],
        [[cell("t")]],
        "the steps of a script run on one session"
    );
    case.end().await;
}

const COUNT: &str = "SELECT count(*) FROM public.t";

async fn with_table<'a>(site: &'a dyn Site, name: &str) -> Case<'a> {
    let case = Case::new(site, name).await;
    case.exec("CREATE TABLE public.t (n int)").await;
    case
}

pub(super) async fn the_first_failing_step_ends_the_script(site: &dyn Site) {
    let case = with_table(site, "failing_step").await;
    let steps = case
        .script("INSERT INTO public.t VALUES (1)")
        .guard(Statement::fixed("SELECT true"))
        .step(Statement::fixed("INSERT INTO public.t VALUES (1/0)"))
        .step(Statement::fixed("INSERT INTO public.t VALUES (3)"));
    let error = case
        .fails(&steps, SqlErrorKind::Statement, Some(2), "a division by zero")
        .await;
    assert_eq!(error.sqlstate(), Some("22012"), "{error:?}");
    assert_eq!(
        error.to_string(),
        "division by zero",
        "the message is PostgreSQL's own"
    );
    assert_eq!(
        case.ask("SELECT string_agg(n::text, ',') FROM public.t").await,
        "1",
        "without a transaction the steps before the failing one stay, and none after it is run"
    );

    case.exec("TRUNCATE public.t").await;
    let error = case
        .fails(
            &steps.in_transaction(),
            SqlErrorKind::Statement,
            Some(2),
            "in a transaction",
        )
        .await;
    assert_eq!(error.sqlstate(), Some("22012"), "{error:?}");
    assert_eq!(
        case.ask(COUNT).await,
        "0",
        "of a transaction that fails nothing stays"
    );

    // A statement that is not even understood, as the first of a transaction.
    let nonsense = case
        .script("SELECT FROM WHERE")
        .step(Statement::fixed("INSERT INTO public.t VALUES (3)"));
    for script in [nonsense.clone(), nonsense.in_transaction()] {
        let error = case
            .fails(&script, SqlErrorKind::Statement, Some(0), "a syntax error")
            .await;
        assert_eq!(error.sqlstate(), Some("42601"), "{error:?}");
    }
    assert_eq!(
        case.ask(COUNT).await,
        "0",
        "nothing is run after a step that failed"
    );
    case.end().await;
}

pub(super) async fn a_repeated_script_answers_what_is_so_now(site: &dyn Site) {
    let case = with_table(site, "repeated").await;
    let count = case.script(COUNT).repeated();
    for (change, expected) in [
        ("SELECT", "0"),
        ("INSERT INTO public.t VALUES (1)", "1"),
        ("ALTER TABLE public.t ADD COLUMN m int", "1"),
        ("DROP TABLE public.t; CREATE TABLE public.t (other text)", "0"),
        ("INSERT INTO public.t VALUES ('a'), ('b')", "2"),
    ] {
        case.exec(change).await;
        let answers = case.good(&count).await;
        assert_eq!(answers, [[[Some(expected.to_owned())]]], "after {change}");
    }
    case.exec("DROP TABLE public.t").await;
    let gone = case
        .fails(&count, SqlErrorKind::Statement, Some(0), "its table is gone")
        .await;
    assert_eq!(gone.sqlstate(), Some("42P01"), "{gone:?}");
    case.exec("CREATE TABLE public.t (n int)").await;
    assert_eq!(case.good(&count).await, [[[Some("0".to_owned())]]]);
    case.end().await;
}

pub(super) async fn guards(site: &dyn Site) {
    let case = with_table(site, "guards").await;
    for guard in [
        "SELECT true",
        "SELECT true, false",
        "SELECT b FROM (VALUES (1, true), (2, false)) AS v (n, b) ORDER BY n",
    ] {
        let script = Script {
            steps: Vec::new(),
            ..case.script(guard)
        };
        let script = script
            .guard(Statement::fixed(guard))
            .step(Statement::fixed("SELECT 7"));
        assert_eq!(case.value(&script).await, "7", "{guard} holds");
    }
    for guard in [
        "SELECT false",
        "SELECT NULL::bool",
        "SELECT 1",
        "SELECT 'true'",
        "SELECT false, true",
        "SELECT true WHERE false",
        "SELECT",
        "SET LOCAL lock_timeout = 1000",
    ] {
        let steps = case
            .script("INSERT INTO public.t VALUES (1)")
            .guard(Statement::fixed(guard))
            .step(Statement::fixed("INSERT INTO public.t VALUES (2)"));
        let error = case
            .fails(&steps, SqlErrorKind::GuardFailed, Some(1), guard)
            .await;
        assert_eq!(
            error.sqlstate(),
            None,
            "{guard}: the server has refused nothing: {error:?}"
        );
        assert_eq!(
            case.ask("SELECT string_agg(n::text, ',') FROM public.t").await,
            "1",
            "{guard}: the steps before a guard that does not hold are done, and none after it is run"
        );
        case.exec("TRUNCATE public.t").await;
        case.fails(&steps.in_transaction(), SqlErrorKind::GuardFailed, Some(1), guard)
            .await;
        assert_eq!(
            case.ask(COUNT).await,
            "0",
            "{guard}: a guard that does not hold undoes its transaction"
        );
    }
    case.end().await;
}

pub(super) async fn transactions(site: &dyn Site) {
    let case = with_table(site, "transactions").await;
    let good = case
        .script("INSERT INTO public.t VALUES (1)")
        .step(Statement::fixed("INSERT INTO public.t VALUES (2)"))
        .guard(Statement::fixed(
            "SELECT count(DISTINCT xmin::text) = 1 FROM public.t",
        ))
        .step(Statement::fixed(COUNT))
        .in_transaction();
    assert_eq!(
        case.value(&good).await,
        "2",
        "a step sees what those before it did"
    );
    assert_eq!(
        case.ask(COUNT).await,
        "2",
        "a transaction is committed when it is answered"
    );

    // The commit itself may be what fails.
    case.exec("CREATE TABLE public.d (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let deferred = case
        .script("INSERT INTO public.d VALUES (1), (1)")
        .in_transaction();
    let error = case
        .fails(
            &deferred,
            SqlErrorKind::Statement,
            None,
            "a commit that the server refuses",
        )
        .await;
    assert_eq!(error.sqlstate(), Some("23505"), "{error:?}");
    assert_eq!(
        case.ask("SELECT count(*) FROM public.d").await,
        "0",
        "a commit that is refused leaves nothing"
    );

    // One transaction is over when the script is: the next one is none.
    assert_eq!(
        case.ask("SELECT now() = statement_timestamp()").await,
        "t",
        "no transaction stays open after its script"
    );
    case.end().await;
}

pub(super) async fn each_step_commits_by_itself(site: &dyn Site) {
    let case = with_table(site, "autocommit").await;
    let own = case
        .script("INSERT INTO public.t VALUES (1)")
        .step(Statement::fixed("INSERT INTO public.t VALUES (2)"))
        .step(Statement::fixed("VACUUM public.t"))
        .step(Statement::fixed(
            "SELECT count(DISTINCT xmin::text) FROM public.t",
        ));
    assert_eq!(
        case.value(&own).await,
        "2",
        "without a transaction each step has its own"
    );

    let alter = "ALTER SYSTEM SET work_mem = '5MB'";
    for refused in [alter, "VACUUM public.t"] {
        let error = case
            .fails(
                &case.script(refused).in_transaction(),
                SqlErrorKind::Statement,
                Some(0),
                "a statement that no transaction may have",
            )
            .await;
        assert_eq!(error.sqlstate(), Some("25001"), "{error:?}");
    }
    case.exec(alter).await;
    case.exec("ALTER SYSTEM RESET work_mem").await;
    case.end().await;
}
