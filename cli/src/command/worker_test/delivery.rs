//! Checks of what becomes of a job whose answer does not get through, or whose worker dies.

use flotilla_protocol::amqp::{Outgoing, limited_queue, named_queue};
use flotilla_protocol::message::TaskJob;
use tokio::time::sleep;
use uuid::Uuid;

use super::bench::{Bench, FILLER, Said};
use super::process::Process;
use super::verdict::{Clause, Stop, Verdict};
use crate::broker;
use crate::failure::Failure;

/// The broker refuses the answer for a while, since the queue is full.
pub async fn confirm(bench: &mut Bench) -> Result<Verdict, Stop> {
    let full = full_queue(bench).await?;
    let job = bench.job();
    bench.publish_for(&job, &full).await?;
    bench.taken().await?;
    bench.settle().await?;
    bench.listen(&full).await?;
    if is_answered(bench, &job).await? {
        return Ok(Verdict::Passed(
            "an answer that the broker refused came once there was room".to_owned(),
        ));
    }
    Clause::SendAgain.broken("an answer that the broker refused (nack) never came again")
}

/// The answer is returned for a while, since there is no queue for it.
pub async fn mandatory(bench: &mut Bench) -> Result<Verdict, Stop> {
    let missing = name();
    let job = bench.job();
    bench.publish_for(&job, &missing).await?;
    bench.taken().await?;
    bench.settle().await?;
    appear(bench, &missing).await?;
    if is_answered(bench, &job).await? {
        return Ok(Verdict::Passed(
            "an answer without a queue came once there was one".to_owned(),
        ));
    }
    Clause::SendAgain.broken("an answer for which there was no queue never came again")
}

/// The worker is killed while its answer cannot get through, and once more after it got through.
pub async fn acknowledge(bench: &mut Bench) -> Result<Verdict, Stop> {
    let missing = name();
    let job = bench.job();
    bench.publish_for(&job, &missing).await?;
    bench.taken().await?;
    bench.settle().await?;
    kill(bench).await?;
    if !came_back(bench).await? {
        return Clause::Acknowledge.broken(
            "killed while its answer could not be delivered, the worker took the job with it",
        );
    }
    appear(bench, &missing).await?;
    start(bench).await?;
    bench.completion(&job).await?;
    bench.settle().await?;
    kill(bench).await?;
    let is_left = came_back(bench).await?;
    start(bench).await?;
    if is_left {
        return Clause::Acknowledge
            .broken("killed after its answer was confirmed, the worker left the job behind");
    }
    Ok(Verdict::Passed(
        "unacknowledged while the answer was on its way, acknowledged afterwards".to_owned(),
    ))
}

/// A job that was delivered before. The test takes it first and gives it back.
pub async fn redelivery(bench: &mut Bench) -> Result<Verdict, Stop> {
    let full = full_queue(bench).await?;
    let could_not = |error| broker::failed("could not take a job and give it back", error);
    let queue = bench.queue();
    let first = bench.connection.consume_first(&queue, 1).await;
    let mut first = first.map_err(could_not)?;
    let job = bench.job();
    bench.publish_for(&job, &full).await?;
    let taken = tokio::time::timeout(bench.subject.patience, first.next()).await;
    let Ok(Some(taken)) = taken else {
        let lost = "a job did not come to who consumes first";
        return Err(Failure::refused(lost).into());
    };
    let given_back = first.acker().nack_requeue(taken.tag).await;
    given_back.map_err(could_not)?;
    first.close().await;
    bench.taken().await?;
    bench.settle().await?;
    bench.listen(&full).await?;
    started_first(bench, &job).await?;
    Ok(Verdict::Passed(
        "`task.started` came before the answer, though it was refused at first".to_owned(),
    ))
}

/// The worker is killed with a job, and started again.
pub async fn killed(bench: &mut Bench, slow: Option<&TaskJob>) -> Result<Verdict, Stop> {
    let job = give(bench, slow).await?;
    kill(bench).await?;
    if !came_back(bench).await? {
        return Clause::Acknowledge
            .broken("killed amid a job that was not answered, the worker took the job with it");
    }
    start(bench).await?;
    started_first(bench, &job).await?;
    Ok(Verdict::Passed(
        "started again, it told the start of the job and answered it".to_owned(),
    ))
}

/// The worker stands still with a job, and goes on.
pub async fn frozen(bench: &mut Bench, slow: Option<&TaskJob>) -> Result<Verdict, Stop> {
    let job = give(bench, slow).await?;
    process(bench)?.freeze();
    let time = bench.subject.freeze;
    sleep(time).await;
    process(bench)?.thaw();
    bench.completion(&job).await?;
    bench.settle().await?;
    let count = bench.completions(&job).count();
    let next = bench.job();
    bench.publish(&next).await?;
    bench.completion(&next).await?;
    Ok(Verdict::Passed(format!(
        "after {} s it answered {count} times, and then the next job",
        time.as_secs_f64()
    )))
}

/// Hands the worker a job that it cannot have answered yet: one that takes a while, or one that comes
/// to it while it stands still.
async fn give(bench: &mut Bench, slow: Option<&TaskJob>) -> Result<TaskJob, Stop> {
    if let Some(slow) = slow {
        bench.publish(slow).await?;
        bench.taken().await?;
        return Ok(slow.clone());
    }
    process(bench)?.freeze();
    let job = bench.job();
    bench.publish(&job).await?;
    bench.taken().await?;
    Ok(job)
}

/// Demands that the start of a job is told before its answer comes.
async fn started_first(bench: &mut Bench, job: &TaskJob) -> Result<(), Stop> {
    bench.completion(job).await?;
    match bench.said(job).next() {
        Some((_, Said::Started(started))) if started.attempt == job.attempt => Ok(()),
        Some((_, Said::Started(started))) => Clause::Ids.broken(format!(
            "the start of attempt {} was told as that of attempt {}",
            job.attempt, started.attempt
        )),
        Some((_, Said::Completed(_) | Said::Heartbeat)) | None => {
            Clause::Started.broken("the answer came without a `task.started` before it")
        }
    }
}

/// Kills the worker, and waits until the broker has noticed.
async fn kill(bench: &mut Bench) -> Result<(), Stop> {
    process(bench)?.kill().await;
    if bench.queue_is(|state| state.consumers == 0).await? {
        return Ok(());
    }
    let still = "the queue is still consumed after the worker was killed";
    Err(Failure::refused(still)
        .hint("--command must run the worker itself, and no other may use the pool")
        .into())
}

/// Whether a job is in the queue that nobody consumes. What the dead worker held is back by now.
async fn came_back(bench: &Bench) -> Result<bool, Failure> {
    Ok(bench.state().await?.messages > 0)
}

/// Starts the worker and waits until it consumes.
pub async fn start(bench: &mut Bench) -> Result<(), Failure> {
    process(bench)?.start()?;
    let until = tokio::time::Instant::now() + bench.subject.patience;
    while bench.state().await?.consumers == 0 {
        if let Some(status) = process(bench)?.ended() {
            return Err(Failure::refused(format!(
                "the worker ended before it consumed {} ({status})",
                bench.queue()
            ))
            .hint("its messages stand above; it learns where the broker is from AMQP_URL"));
        }
        if tokio::time::Instant::now() > until {
            return Err(Failure::refused(format!(
                "the worker does not consume {} after {} s",
                bench.queue(),
                bench.subject.patience.as_secs_f64()
            ))
            .hint("does --command name the same pool as --pool?"));
        }
        sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

fn process(bench: &mut Bench) -> Result<&mut Process, Failure> {
    let missing = || Failure::refused("the worker was not started by this test");
    bench.worker.as_mut().ok_or_else(missing)
}

/// A queue of answers that has no room.
async fn full_queue(bench: &Bench) -> Result<String, Stop> {
    let queue = name();
    let could_not = |error| broker::failed("could not make a queue without room", error);
    limited_queue(&bench.connection, &queue, 1)
        .await
        .map_err(could_not)?;
    bench
        .send(Outgoing::to_queue(queue.as_str(), FILLER, Vec::new()))
        .await?;
    Ok(queue)
}

/// Makes the queue that answers were sent to.
async fn appear(bench: &Bench, queue: &str) -> Result<(), Stop> {
    let could_not = |error| broker::failed("could not make a queue for answers", error);
    named_queue(&bench.connection, queue)
        .await
        .map_err(could_not)?;
    bench.listen(queue).await?;
    Ok(())
}

async fn is_answered(bench: &mut Bench, job: &TaskJob) -> Result<bool, Stop> {
    let until = tokio::time::Instant::now() + bench.subject.patience;
    bench.hear_until(until, job).await?;
    Ok(bench.completions(job).next().is_some())
}

fn name() -> String {
    format!("flotilla.worker-test.{}", Uuid::now_v7())
}
