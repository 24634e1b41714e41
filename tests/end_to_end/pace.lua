-- For wrk: how many milliseconds each connection waits between two requests.
-- As much as it can would be three quarters of what these tests cost, and hits no other moment.
function delay()
    return 2
end
