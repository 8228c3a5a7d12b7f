package simplenet.server.frontend;

import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.TimeUnit;
import org.pytorch.serve.job.Job;
import org.pytorch.serve.util.ApiUtils;
import org.pytorch.serve.wlm.BatchAggregator;
import org.pytorch.serve.wlm.Model;
import org.pytorch.serve.wlm.ModelManager;
import org.pytorch.serve.wlm.ModelVersionedRefs;
import org.pytorch.serve.wlm.WorkerState;
import org.pytorch.serve.wlm.WorkerThread;

/**
 * The queues of TorchServe's models, which it keeps to itself: read and cleaned by reflection. Its last release is the
 * only one there will be.
 *
 * <p>TorchServe leaves a request in the queue for as long as no worker takes it, and for ever in the queue of a model
 * that was removed.
 */
final class Queues {
    private static final long LONGEST_WAIT_MS = Long.getLong("simplenet.queue.wait.ms", 10_000);
    private static final Field JOBS = field(Model.class, "jobsDb");
    private static final Field AGGREGATOR = field(WorkerThread.class, "aggregator");
    private static final Field HELD = field(BatchAggregator.class, "jobs");
    private static final int UNAVAILABLE = 503;

    private static final long REMEMBERED_S = 120; // longer than a worker of a removed model takes to end

    private final Map<Model, Long> seen = new HashMap<>(); // every model, and when it was last registered

    /** Answer every request that has waited too long, and all that wait for a model that was removed. */
    void clean() throws ReflectiveOperationException {
        for (Map.Entry<String, ModelVersionedRefs> versions : ModelManager.getInstance().getAllModels()) {
            for (Map.Entry<String, Model> version : versions.getValue().getAllVersions()) {
                seen.put(version.getValue(), Traffic.now());
                refuseOld(version.getValue());
            }
        }
        for (Map.Entry<Model, Long> model : seen.entrySet()) {
            if (model.getValue() != Traffic.now()) {
                refuseAll(model.getKey());
            }
        }
        seen.values().removeIf(last -> Traffic.secondsSince(last) > REMEMBERED_S);
        // Twice what a worker may take: TorchServe itself gives up before that.
        seen.keySet().stream()
                .mapToLong(Model::getResponseTimeout)
                .max()
                .ifPresent(slowest -> Traffic.setLongest(LONGEST_WAIT_MS / 1000 + 2 * slowest));
    }

    private static void refuseOld(Model model) throws ReflectiveOperationException {
        LinkedBlockingDeque<Job> queue = queueOf(model);
        long oldest = System.nanoTime() - TimeUnit.MILLISECONDS.toNanos(LONGEST_WAIT_MS);
        Job first;
        while ((first = queue.peekFirst()) != null && first.getBegin() - oldest < 0) {
            if (queue.remove(first)) { // otherwise a worker has taken it meanwhile
                first.sendError(
                        UNAVAILABLE,
                        "queue: no worker took the request within " + LONGEST_WAIT_MS / 1000.0 + " s; try again");
            }
        }
    }

    private static void refuseAll(Model removed) throws ReflectiveOperationException {
        Queue<Job> queue = queueOf(removed);
        Job first;
        while ((first = queue.poll()) != null) {
            first.sendError(UNAVAILABLE, "model: this version was just removed; try again");
        }
    }

    /** How many requests wait for a version of a model; -1 if there is none. */
    static int queued(String name, String version) throws ReflectiveOperationException {
        Model model = find(name, version);
        return model == null ? -1 : queueOf(model).size();
    }

    /** How many requests the workers of a version hold; -1 if there is none. */
    static int held(String name, String version) throws ReflectiveOperationException {
        Model model = find(name, version);
        return model == null ? -1 : held(ModelManager.getInstance().getWorkers(model.getModelVersionName()));
    }

    /** How many requests wait or are held, of all models. */
    static int all() throws ReflectiveOperationException {
        int all = held(ModelManager.getInstance().getWorkers().values());
        for (Map.Entry<String, ModelVersionedRefs> versions : ModelManager.getInstance().getAllModels()) {
            for (Map.Entry<String, Model> version : versions.getValue().getAllVersions()) {
                all += queueOf(version.getValue()).size();
            }
        }
        return all;
    }

    /** Whether TorchServe refused a request, with this message, because its model has no workers; else its queue is full. */
    static boolean hasNoWorkers(String message) {
        for (Map.Entry<String, ModelVersionedRefs> versions : ModelManager.getInstance().getAllModels()) {
            List<String> names = new ArrayList<>();
            names.add(null); // of the version that a request gets which names none
            versions.getValue().getAllVersions().forEach(version -> names.add(version.getKey()));
            for (String name : names) {
                if (ApiUtils.getStreamingInferenceErrorResponseMessage(versions.getKey(), name).equals(message)) {
                    Model model = versions.getValue().getVersionModel(name);
                    return model != null
                            && ModelManager.getInstance().getWorkers(model.getModelVersionName()).isEmpty();
                }
            }
        }
        return false;
    }

    private static Model find(String name, String version) {
        for (Map.Entry<String, ModelVersionedRefs> versions : ModelManager.getInstance().getAllModels()) {
            if (versions.getKey().equals(name)) {
                return versions.getValue().getVersionModel(version);
            }
        }
        return null;
    }

    private static int held(Collection<WorkerThread> workers) throws ReflectiveOperationException {
        int held = 0;
        if (workers != null) {
            for (WorkerThread worker : workers) {
                if (worker.getState() == WorkerState.WORKER_STARTED) {
                    continue; // what it holds is the command to load its model
                }
                held += ((Map<?, ?>) HELD.get(AGGREGATOR.get(worker))).size();
            }
        }
        return held;
    }

    @SuppressWarnings("unchecked")
    private static LinkedBlockingDeque<Job> queueOf(Model model) throws ReflectiveOperationException {
        return ((ConcurrentMap<String, LinkedBlockingDeque<Job>>) JOBS.get(model)).get(Model.DEFAULT_DATA_QUEUE);
    }

    private static Field field(Class<?> owner, String name) {
        try {
            Field field = owner.getDeclaredField(name);
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException error) {
            throw new ExceptionInInitializerError(error);
        }
    }
}
