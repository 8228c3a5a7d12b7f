package simplenet.server.frontend;

import java.util.concurrent.atomic.AtomicLong;

/**
 * What the bodies of one connection take of the budgets that all connections share: of simplenet.body.budget the large
 * ones, from the moment they are announced until their response is written; of simplenet.small.budget the others, as
 * they arrive. So large bodies never keep small ones out.
 */
final class Charge {
    /** Bytes. */
    static final long BUDGET = Long.getLong("simplenet.body.budget", Long.MAX_VALUE);

    private static final long SMALL = 32 * 1024; // bytes: a row of 784 numbers in JSON has half of that
    private static final long SMALL_BUDGET = Long.getLong("simplenet.small.budget", Long.MAX_VALUE);
    private static final AtomicLong TAKEN = new AtomicLong();
    private static final AtomicLong SMALL_TAKEN = new AtomicLong();

    private long arriving; // for the request that is being received, if it is large
    private int small; // for it, before it was large
    private long waiting; // for a request that is complete, until its response is written

    /** A body of so many bytes was announced. Returns false if there is no room for it. */
    boolean announce(long size) {
        return size <= SMALL || take(size);
    }

    /** What has arrived takes `capacity` bytes. Returns false if there is no room for a body that has become large. */
    boolean grow(int capacity) {
        return capacity <= SMALL || capacity <= arriving || take(capacity - arriving);
    }

    /** As `grow`, of a body that is not large, or not yet. */
    boolean growSmall(int capacity) {
        if (arriving > 0 || capacity <= small) {
            return true;
        }
        int more = capacity - small;
        small = capacity;
        return SMALL_TAKEN.addAndGet(more) <= SMALL_BUDGET;
    }

    /** The request is complete: it keeps what it has until `giveBackWaiting`. */
    void complete() {
        waiting = arriving;
        arriving = 0;
        giveBackArriving();
    }

    void giveBackArriving() {
        TAKEN.addAndGet(-arriving);
        arriving = 0;
        if (small > 0) {
            SMALL_TAKEN.addAndGet(-small);
            small = 0;
        }
    }

    void giveBackWaiting() {
        TAKEN.addAndGet(-waiting);
        waiting = 0;
    }

    private boolean take(long size) {
        long taken;
        do {
            taken = TAKEN.get();
            if (taken + size > BUDGET) {
                return false;
            }
        } while (!TAKEN.compareAndSet(taken, taken + size));
        arriving += size;
        return true;
    }
}
